package gateway

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// standing is a connection to a broker that was verified, and is to stay so.
type standing struct {
	conn  *atls.Conn         // nil if the broker was not asked for evidence
	again *client.Reattester // nil if there are no rounds
	end   func(error)        // ends it, since the broker is not what it should be any more
}

// stand makes a connection to the broker one that stands.
func (g *gateway) stand(remote net.Conn) *standing {
	s := new(standing)
	if conn, ok := remote.(*atls.Conn); ok {
		s.conn, s.again = conn, client.NewReattester(conn)
	}
	s.end = func(err error) {
		g.logRefused(err)
		_ = remote.Close()
	}
	return s
}

// endBy has the end of a connection told to its client.
func (g *gateway) endBy(p *passage) {
	p.end = func(err error) {
		g.logRefused(err)
		reason := mqtt.UnspecifiedError
		if client.Refused(err) {
			reason = mqtt.NotAuthorized
		}
		p.tell(reason)
	}
}

func (g *gateway) logRefused(err error) {
	g.logFailure(fmt.Errorf("on a connection that stood: %w", err))
}

// standings are all connections that stand.
type standings struct {
	mu  sync.Mutex
	all map[*standing]struct{}
}

func (s *standings) add(one *standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*standing]struct{}{}
	}
	s.all[one] = struct{}{}
}

func (s *standings) remove(one *standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, one)
}

func (s *standings) list() (all []*standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for one := range s.all {
		all = append(all, one)
	}
	return all
}

// reappraise judges the brokers of connections that stand whenever the bundle has been renewed, until ctx ends.
func (g *gateway) reappraise(ctx context.Context) {
	for {
		select {
		case <-g.Renewed:
		case <-ctx.Done():
			return
		}
		for _, s := range g.standing.list() {
			if s.conn == nil || !s.conn.CanReattest() {
				continue
			}
			if v := g.Reappraise(s.conn); !v.Accepted {
				s.end(v.Err)
			}
		}
	}
}
