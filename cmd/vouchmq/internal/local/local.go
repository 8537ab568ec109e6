// Package local starts brokers on this machine as processes of their own: `vouchmq serve`, as a user would, on
// ports that are free. The demonstration and the measurements use it.
package local

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/bench"
	"github.com/vouchmq/vouchmq/client"
)

// Ready is what `vouchmq serve --ready-file` writes once its listeners are open.
type Ready struct {
	ServerPID int               `json:"pid"`
	Engine    string            `json:"engine"`
	Module    string            `json:"module"`    // digest
	Listeners map[string]string `json:"listeners"` // addresses by the listener's name
	Bundle    string            `json:"bundle"`    // files
	OwnerCA   string            `json:"owner_ca"`
	ClientKey string            `json:"client_key"`
}

// WriteFile writes it so that whoever waits for the file sees all of it or nothing.
func (r Ready) WriteFile(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return os.Rename(path+".new", path)
}

// Stats is what `vouchmq serve` prints, as one line of JSON, when it gets SIGUSR1 and when it ends.
type Stats struct {
	Engine             string  `json:"engine"`
	Steps              uint64  `json:"steps"`
	LongestStepSeconds float64 `json:"longest_step_seconds"` // by the clock on the wall
	BusiestStepSeconds float64 `json:"busiest_step_seconds"` // by the processor time that it used
	Restarts           uint64  `json:"restarts"`
	Connections        int     `json:"connections"`
	Accepted           uint64  `json:"accepted"`
	FailedHandshakes   uint64  `json:"failed_handshakes"`
	DroppedQoS0        uint64  `json:"dropped_qos0"`
	DroppedQueue       uint64  `json:"dropped_queue"` // at any QoS, because a session's queue was full
	Received           uint64  `json:"received"`      // messages
	Sent               uint64  `json:"sent"`          // deliveries
	Sessions           uint64  `json:"sessions"`
	MessageBytes       uint64  `json:"message_bytes"`
	Stalled            uint64  `json:"stalled"`
	Overflowed         uint64  `json:"overflowed"`
}

// Longest returns the longest step of the module since the broker started: by the processor time that it used, and by
// the clock on the wall.
func (s Stats) Longest() bench.LongestStep {
	second := float64(time.Second)
	return bench.LongestStep{
		Used: time.Duration(s.BusiestStepSeconds * second), Wall: time.Duration(s.LongestStepSeconds * second),
	}
}

// Broker is a broker that runs as a process.
type Broker struct {
	*bench.Process
	Ready
	bundle *client.Bundle // nil of a broker whose owner is elsewhere
	stats  *statsReader
	ready  string // file
	net    bench.NetDial
}

// readyTime is how long a broker may take until it listens: it compiles its module first.
const readyTime = 90 * time.Second

// Start starts the executable program as `serve`, with its state in dir and further arguments, and waits until it listens. What it prints goes
// to also, too, which may be nil.
func Start(ctx context.Context, program, dir string, also io.Writer, args ...string) (*Broker, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	args = append([]string{"--state", dir, "--listen", "127.0.0.1:0", "--listen-plain", "127.0.0.1:0"}, args...)
	b, err := Launch(program, filepath.Join(dir, "ready.json"), also, args...)
	if err != nil {
		return nil, err
	}
	if err := b.Await(ctx); err != nil {
		b.Stop()
		return nil, err
	}
	return b, nil
}

// Launch starts the executable program as `serve`, with a ready file of its own, and does not wait: see [Broker.Await].
func Launch(program, ready string, also io.Writer, args ...string) (*Broker, error) {
	os.Remove(ready) // of an earlier run
	b := &Broker{stats: &statsReader{also: also, got: make(chan Stats, 1)}, ready: ready}
	var err error
	b.Process, err = bench.StartProcess(b.stats, program, append([]string{"serve", "--ready-file", ready}, args...)...)
	return b, err
}

// Await waits until the broker listens, and fills in what it says of itself then.
func (b *Broker) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, errors.New("the broker did not become ready"))
	defer cancel()
	var text []byte
	err := b.WaitFor(ctx, func() bool {
		var err error
		text, err = os.ReadFile(b.ready)
		return err == nil
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &b.Ready); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	if b.Ready.Bundle == "" {
		return nil // bundles are the owner's
	}
	b.bundle, err = client.ReadBundle(b.Ready.Bundle)
	return err
}

// Over returns the same broker as it is reached over another network, such as a slow one.
func (b *Broker) Over(net bench.NetDial) *Broker {
	c := *b
	c.net = net
	return &c
}

// Plain dials the broker over plain TCP.
func (b *Broker) Plain() bench.Dialer { return b.net.TCP(b.Listeners["plain"]) }

// TLS dials the broker over ordinary TLS at address, "" for its own.
func (b *Broker) TLS(address string) bench.Dialer {
	roots := x509.NewCertPool()
	roots.AddCert(b.bundle.OwnerCA)
	config := &tls.Config{RootCAs: roots, ServerName: b.bundle.Service, MinVersion: tls.VersionTLS13, NextProtos: []string{"mqtt"}}
	return b.net.TLS(or(address, b.Listeners["attested"]), config)
}

// Attested dials the broker at address, "" for its own, and verifies it.
func (b *Broker) Attested(address string) bench.Dialer { return b.dial(address, client.Options{}) }

// Unattested dials the broker as Attested does, and does not ask for evidence.
func (b *Broker) Unattested(address string) bench.Dialer {
	return b.dial(address, client.Options{Unattested: true})
}

func (b *Broker) dial(address string, o client.Options) bench.Dialer {
	o.Address, o.Dial = or(address, b.Listeners["attested"]), b.net.Dial
	return func(ctx context.Context) (net.Conn, error) {
		conn, _, err := client.Dial(ctx, b.bundle, o)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// HostPort splits the address of a listener into the arguments of -h and -p.
func (b *Broker) HostPort(listener string) (host, port string) {
	host, port, _ = net.SplitHostPort(b.Listeners[listener])
	return host, port
}

// Stats asks the broker for its statistics.
func (b *Broker) Stats(ctx context.Context) (Stats, error) {
	if err := b.Signal(StatsSignal); err != nil {
		return Stats{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("the broker printed no statistics"))
	defer cancel()
	select {
	case s := <-b.stats.got:
		return s, nil
	case <-b.Done():
		return Stats{}, b.Ended()
	case <-ctx.Done():
		return Stats{}, context.Cause(ctx)
	}
}

// statsReader finds the lines with statistics in what a broker prints, and hands all on.
type statsReader struct {
	mu   sync.Mutex
	line []byte
	also io.Writer
	got  chan Stats // holds the latest
}

// StatsPrefix begins a line with statistics.
const StatsPrefix = "stats "

func (r *statsReader) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line = append(r.line, b...)
	for {
		line, rest, whole := bytes.Cut(r.line, []byte("\n"))
		if !whole {
			break
		}
		r.take(line)
		r.line = rest
	}
	if r.also != nil {
		return r.also.Write(b)
	}
	return len(b), nil
}

func (r *statsReader) take(line []byte) {
	text, ok := bytes.CutPrefix(line, []byte(StatsPrefix))
	var s Stats
	if !ok || json.Unmarshal(text, &s) != nil {
		return
	}
	select {
	case <-r.got:
	default:
	}
	r.got <- s
}
