package admin

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/metrics"
)

// Broker is what is administered. Its methods may be called by any goroutine.
type Broker interface {
	metrics.Source
	// Ask asks the core. Nothing of the answer aliases memory of others. It returns an error when ctx ends first.
	Ask(ctx context.Context, q abi.Question) (abi.Answer, error)
	// Connection returns what is known of a connection beside its session, and false if there is none of that number.
	Connection(conn abi.Conn) (Connection, bool)
	// Listeners returns the listeners that are open.
	Listeners() []Listener
	// Draining reports whether no connections are let in any more.
	Draining() bool
	// Reload reads the configuration anew. An error says that the old one is still in force, and why; it is an
	// ErrUnavailable if there is nothing to read.
	Reload(ctx context.Context) error
	// Unlock forgets the failed logins of an address, and reports whether it was locked out. The error is an
	// ErrUnavailable if nobody is ever locked out.
	Unlock(address netip.Addr) (bool, error)
	// Drain closes the listeners. Connections stay.
	Drain(ctx context.Context) error
	// Stop begins the end of the broker and does not wait for it. Clients are given the reason code, and with 0x9C and
	// 0x9D the server reference, unless it is "".
	Stop(reason uint8, reference string)
}

// ErrUnavailable says that this broker cannot do what was asked, whatever the parameters.
var ErrUnavailable = errors.New("this broker cannot do that")

// Connection is what is known of a connection beside its session.
type Connection struct {
	Listener   string    `json:"listener"`
	Address    string    `json:"address"`
	Since      time.Time `json:"since"`
	BytesIn    uint64    `json:"bytes_in"`
	BytesOut   uint64    `json:"bytes_out"`
	PacketsIn  uint64    `json:"packets_in"`
	PacketsOut uint64    `json:"packets_out"`
	Backlog    uint64    `json:"backlog"` // bytes that are still to be written
	Stalled    bool      `json:"stalled"` // it does not read
}

// Listener is one that is open.
type Listener struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Address string `json:"address"`
}
