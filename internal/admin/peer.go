package admin

import (
	"context"
	"log/slog"
	"net"
	"os"
)

// guarded lets in only connections of the broker's own user and of root. The mode of the socket says the same; but a
// folder may have been copied, or the mode changed.
type guarded struct {
	net.Listener
	log *slog.Logger
}

func (g *guarded) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && allowed(uid, uint32(os.Geteuid())) {
			return conn, nil
		}
		if g.log != nil {
			g.log.Warn("administration refused to another user", "uid", uid, "error", err)
		}
		_ = conn.Close() // its error is of no use to anybody
	}
}

func allowed(uid, own uint32) bool { return uid == own || uid == 0 }

type uidKey struct{}

// withUID notes in the context of requests who asks.
func withUID(ctx context.Context, conn net.Conn) context.Context {
	uid, err := peerUID(conn)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, uidKey{}, uid)
}
