package bench

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"sync/atomic"
)

// NetDial opens a connection of TCP, as net.Dialer.DialContext does, which is what nil means.
type NetDial func(ctx context.Context, network, address string) (net.Conn, error)

// Dial dials.
func (d NetDial) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d == nil {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return d(ctx, network, address)
}

// TCP dials plain TCP.
func (d NetDial) TCP(addr string) Dialer {
	return func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, "tcp", addr) }
}

// TLS dials ordinary TLS.
func (d NetDial) TLS(addr string, config *tls.Config) Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		raw, err := d.Dial(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return tlsClient(ctx, raw, config)
	}
}

// DialTCP dials plain TCP.
func DialTCP(addr string) Dialer { return NetDial(nil).TCP(addr) }

// DialTLS dials ordinary TLS. The configuration names the server.
func DialTLS(addr string, config *tls.Config) Dialer { return NetDial(nil).TLS(addr, config) }

// perSource is how many connections may come from one address: some less than there are ports for, of which Linux has 28,232.
const perSource = 20_000

// ManySources dials brokers on this machine from 127.0.0.1, then from 127.0.0.2, and so on, so that ports do not run out. It does so
// on Linux, where all of them are there without being set up.
func ManySources() NetDial { return manySources(perSource) }

func manySources(each int64) NetDial {
	var opened atomic.Int64
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := new(net.Dialer)
		if n := byte((opened.Add(1) - 1) / each); n > 0 && runtime.GOOS == "linux" {
			d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1+n)}
		}
		return d.DialContext(ctx, network, address)
	}
}
