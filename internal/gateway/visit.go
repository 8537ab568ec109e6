package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// past, as a deadline, makes what is blocked on a connection return.
var past = time.Unix(1, 0)

// visit is the whole life of one client. When ctx ends, nothing more is read from the client.
func (g *gateway) visit(ctx context.Context, local net.Conn, log *slog.Logger) {
	unhook := context.AfterFunc(ctx, func() { _ = local.SetReadDeadline(past) })
	defer unhook()
	hello, err := g.hello(ctx, local)
	if err != nil {
		if !errors.Is(err, io.EOF) && ctx.Err() == nil {
			log.Info("client is not served", "reason", err)
		}
		return
	}
	remote, err := g.dial(ctx)
	if err != nil {
		log.Debug("client is not served", "reason", err)
		refuse(local, hello.version, err)
		return
	}
	defer remote.Close()
	// A broker that takes nothing must not hold up the end.
	unbind := context.AfterFunc(ctx, func() { _ = remote.SetWriteDeadline(time.Now().Add(g.Grace)) })
	defer unbind()
	began := time.Now()
	log.Debug("client is connected to the broker", "broker", remote.RemoteAddr().String())
	up, down, err := g.serve(ctx, local, remote, hello.bytes, log)
	if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		log.Info("client is not served", "reason", err)
	}
	log.Debug("client's connection has ended", "sent_bytes", up, "received_bytes", down, "after", time.Since(began).Round(time.Millisecond))
}

// serve carries a client whose stream begins with head.
func (g *gateway) serve(ctx context.Context, local, remote net.Conn, head []byte, log *slog.Logger) (up, down int64, err error) {
	s := g.stand(remote)
	p, whole, err := g.passage(ctx, s, local, remote, head)
	if err != nil {
		return 0, 0, err
	}
	if p != nil {
		p.log = log
		g.endBy(p)
	}
	g.standing.add(s)
	defer g.standing.remove(s)
	if p == nil {
		up, down = g.carry(local, remote, whole)
		return up, down, nil
	}
	up, down = p.run(ctx)
	return up, down, nil
}

// name says who a client is. On a Unix socket it has no name of its own.
func name(l net.Listener, local net.Conn) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return local.RemoteAddr().String()
}

// hello reads the head of CONNECT within its time.
func (g *gateway) hello(ctx context.Context, local net.Conn) (h hello, err error) {
	err = g.inTime(ctx, local, func() (err error) {
		h, err = readHello(local)
		return err
	})
	return h, err
}

// inTime bounds a part of the client's CONNECT.
func (g *gateway) inTime(ctx context.Context, local net.Conn, part func() error) error {
	_ = local.SetReadDeadline(time.Now().Add(g.ConnectTimeout))
	if ctx.Err() != nil { // the deadline of the end may just have been overwritten
		return ctx.Err()
	}
	if err := part(); err != nil {
		return err
	}
	_ = local.SetReadDeadline(time.Time{})
	return ctx.Err() // likewise
}

// Bounds of the farewell to a client that is refused.
const (
	farewellTime  = time.Second
	farewellBytes = 64 << 10
)

// refuse answers the client's CONNECT. What it has sent beyond is read and thrown away: to close a TCP connection with
// unread bytes would take the answer back.
func refuse(local net.Conn, version mqtt.Version, err error) {
	answer := mqtt.Connack{Reason: mqtt.ServerUnavailable}
	if version >= mqtt.V5 && client.Refused(err) {
		answer.Reason = mqtt.NotAuthorized
	}
	_ = local.SetDeadline(time.Now().Add(farewellTime))
	if _, err := local.Write(mqtt.AppendConnack(nil, version, &answer)); err != nil {
		return
	}
	endWriting(local)
	_, _ = io.CopyN(io.Discard, local, farewellBytes)
}

// carry carries bytes both ways until both have ended, and returns how many.
func (g *gateway) carry(local, remote net.Conn, stream io.Reader) (up, down int64) {
	var ways sync.WaitGroup
	ways.Go(func() {
		up, _ = io.Copy(remote, stream)
		endWriting(remote)
		hurry(remote, local, g.Grace)
	})
	ways.Go(func() {
		down, _ = io.Copy(local, remote)
		endWriting(local)
		hurry(local, remote, g.Grace)
	})
	ways.Wait()
	return up, down
}

// hurry bounds what is left of a connection: the way from one end to the other.
func hurry(from, to net.Conn, grace time.Duration) {
	deadline := time.Now().Add(grace)
	_ = from.SetReadDeadline(deadline)
	_ = to.SetWriteDeadline(deadline)
}

// endWriting tells the other end that nothing more comes, and leaves its way back open.
func endWriting(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = c.Close()
}
