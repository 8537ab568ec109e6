package server

import (
	"context"
	"errors"
	"net"

	"github.com/vouchmq/vouchmq/internal/admin"
)

// places are the sockets of a broker that starts. Nobody is answered there yet. Who takes one closes it.
type places struct {
	clients *change
	metrics net.Listener  // nil if there are none to be shown
	admin   *admin.Socket // nil if there is no administration
}

// bind opens all sockets that a broker needs, before anything that takes time or leaves traces.
func (s *Server) bind(ctx context.Context) (_ *places, err error) {
	p := &places{clients: &change{identity: s.identity, terms: map[string]*terms{}}}
	if err := s.openSockets(ctx, &s.config, p.clients); err != nil {
		return nil, err
	}
	sight := &s.config.Sight
	if sight.Metrics.Address != "" {
		if p.metrics, err = sight.Metrics.Open(ctx); err != nil {
			return nil, errors.Join(err, p.abandon())
		}
	}
	if sight.Admin.Socket != "" {
		if p.admin, err = admin.Open(ctx, sight.Admin.Socket); err != nil {
			return nil, errors.Join(err, p.abandon())
		}
	}
	return p, nil
}

func (p *places) takeClients() *change {
	c := p.clients
	p.clients = nil
	return c
}

func (p *places) takeMetrics() net.Listener {
	l := p.metrics
	p.metrics = nil
	return l
}

func (p *places) takeAdmin() *admin.Socket {
	l := p.admin
	p.admin = nil
	return l
}

// abandon closes what nobody has taken.
func (p *places) abandon() error {
	if c := p.takeClients(); c != nil {
		c.abandon()
	}
	var errs []error
	if l := p.takeMetrics(); l != nil {
		errs = append(errs, l.Close())
	}
	if l := p.takeAdmin(); l != nil {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
