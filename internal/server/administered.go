package server

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/admin"
)

// administered is a Server as package admin sees it: an admin.Broker. Snapshot and Ask are those of the Server.
type administered struct{ *Server }

// Connection returns what is known of a connection beside its session, and false if there is none of that number.
func (a administered) Connection(conn abi.Conn) (admin.Connection, bool) {
	c, ok := a.transport.Connection(conn)
	if !ok {
		return admin.Connection{}, false
	}
	f := &c.Figures
	info := admin.Connection{
		Listener: c.Listener, Since: c.Since.UTC(), BytesIn: f.BytesIn, BytesOut: f.BytesOut, PacketsIn: f.PacketsIn,
		PacketsOut: f.PacketsOut, Backlog: uint64(c.Backlog), Stalled: c.Stalled,
	}
	if c.Address.IsValid() {
		info.Address = c.Address.String()
	}
	return info, true
}

// Listeners returns the listeners that are open.
func (a administered) Listeners() []admin.Listener {
	open := []admin.Listener{}
	if a.Draining() {
		return open
	}
	config := a.Config()
	for i := range config.Listeners {
		l := &config.Listeners[i]
		if address := a.Addr(l.Name); address != nil {
			open = append(open, admin.Listener{Name: l.Name, Kind: string(l.Kind), Address: address.String()})
		}
	}
	return open
}

// Draining reports whether no connection is let in any more.
func (a administered) Draining() bool { return a.draining.Load() }

// Reload reads the configuration anew, see OnReload.
func (a administered) Reload(ctx context.Context) error {
	reload := a.sight.reload.Load()
	if reload == nil {
		return fmt.Errorf("%w: it was started without a configuration file", admin.ErrUnavailable)
	}
	return (*reload)(ctx)
}

// Unlock forgets the failed logins of an address, and reports whether it was locked out.
func (a administered) Unlock(address netip.Addr) (bool, error) {
	g := a.logins.guard
	if g == nil {
		return false, fmt.Errorf("%w: its configuration has no authentication, so nobody is locked out", admin.ErrUnavailable)
	}
	was := g.Unlock(address)
	if was {
		a.log.Info("address is no longer locked out", "address", address.String())
	}
	return was, nil
}

// Drain closes the listeners. Connections stay; Shutdown ends them.
func (a administered) Drain(context.Context) error {
	a.draining.Store(true)
	a.Config().Log.Info("draining: no connection is let in any more")
	return a.transport.CloseListeners()
}

// Stop notes what clients are to be told, and has Stopped say that it is time.
func (a administered) Stop(reason uint8, reference string) {
	a.sight.stopOnce.Do(func() {
		a.sight.farewell.Store(&farewell{reason, reference})
		close(a.sight.stopped)
	})
}
