package bench

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/vouchmq/vouchmq/internal/records"
)

// ordinaryConn is an ordinary TLS connection whose writes reach the network as those of attested ones do: the two are compared.
type ordinaryConn struct {
	*tls.Conn
	below *records.Socket
}

// tlsClient makes a handshake over raw, which it closes if that fails.
func tlsClient(ctx context.Context, raw net.Conn, config *tls.Config) (net.Conn, error) {
	below := records.Below(raw)
	conn := &ordinaryConn{Conn: tls.Client(below, config), below: below}
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

func (c *ordinaryConn) Write(b []byte) (int, error) { return c.below.Through(c.Conn, b) }

// Close ends a write that is under way, too.
func (c *ordinaryConn) Close() error { return c.below.CloseOver(c.Conn) }
