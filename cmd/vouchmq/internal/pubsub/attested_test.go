package pubsub

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/servertest"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

var program = attest.Sum([]byte("program"))

// plant is a broker that demands re-attestation every second, and who dials it with evidence.
type plant struct {
	*server.Server
	config  server.Config
	state   *server.State
	bundle  atomic.Pointer[client.Bundle]
	address atomic.Pointer[string] // where it attests: another one after each start
	log     *testkit.Buffer
	key     *sim.Key
}

func startPlant(t *testing.T) *plant {
	t.Helper()
	p := &plant{}
	b := servertest.Start(t, server.DevelopmentOptions{}, func(c *server.Config, state *server.State) {
		p.key = state.Sim
		c.Attestation = server.Attestation{Reattest: time.Second, Grace: 3 * time.Second}
		c.Policy = p.policy(t, "program")
	})
	p.Server, p.config, p.state, p.log = b.Server, b.Config, b.State, b.Log
	p.writeBundle(t)
	p.isHere()
	return p
}

// isHere has clients dial where the broker listens.
func (p *plant) isHere() {
	address := p.Addr(server.AttestedListener).String()
	p.address.Store(&address)
}

// stop ends the broker. Nobody is where it was.
func (p *plant) stop(t *testing.T) {
	t.Helper()
	nobody := testkit.Nobody(t)
	p.address.Store(&nobody)
	if err := p.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// start starts the broker again with nothing in its memory, on ports that are free.
func (p *plant) start(t *testing.T) {
	t.Helper()
	p.Server = servertest.Run(t, p.config, p.log)
	p.isHere()
}

// writeBundle has clients go by a bundle for the broker as it is now.
func (p *plant) writeBundle(t *testing.T) {
	t.Helper()
	p.bundle.Store(servertest.Bundle(t, p.state, p.Server))
}

// change gives the broker another policy, and so another configuration, which the bundle does not accept.
func (p *plant) change(t *testing.T) {
	t.Helper()
	id := p.config.Policy.Identities()
	rules := append(p.config.Policy.Rules(), policy.Rule{Who: []policy.Who{{User: "new"}}, Publish: []string{"x"}})
	var err error
	if p.config.Policy, err = policy.New(id, rules); err != nil {
		t.Fatal(err)
	}
	if err := p.Reload(context.Background(), p.config); err != nil {
		t.Fatal(err)
	}
}

// policy lets everybody do everything; name is what it calls the program.
func (p *plant) policy(t *testing.T, name string) *policy.Policy {
	t.Helper()
	id := policy.Simulated(name, program, attest.Digest{}, p.key.Digest())
	made, err := policy.New([]policy.Identity{id}, []policy.Rule{{
		Who: []policy.Who{{Identity: name}, {Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#", "$SYS/#"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (p *plant) dial(ctx context.Context) (net.Conn, error) {
	conn, _, err := client.Dial(ctx, p.bundle.Load(), client.Options{
		Attester: sim.NewAttester(p.key, program), Identity: attest.Identity{Module: program}, Address: *p.address.Load(),
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// record counts what a client says and receives.
type record struct {
	mu       sync.Mutex
	said     []string
	received []string
}

func (r *record) options(v Version, id string, clean bool) Options {
	return Options{
		Version: v, ClientID: id, CleanStart: clean, KeepAlive: 30,
		Log:    func(s string) { r.mu.Lock(); defer r.mu.Unlock(); r.said = append(r.said, s) },
		Notice: func(s string) { r.mu.Lock(); defer r.mu.Unlock(); r.said = append(r.said, s) },
		Receive: func(m *Message) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.received = append(r.received, string(m.Payload))
		},
	}
}

func (r *record) count(word string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.said {
		if strings.Contains(s, word) {
			n++
		}
	}
	return n
}

func (r *record) has(payload string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.received {
		if s == payload {
			n++
		}
	}
	return n
}

// first is the first message that was received, "" if none was.
func (r *record) first() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.received) == 0 {
		return ""
	}
	return r.received[0]
}

// A client of MQTT 5 stays connected by attesting again; it hears at once if the broker has become another.
func TestClientReattests(t *testing.T) {
	p, r := startPlant(t), new(record)
	conn, err := p.dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(context.Background(), conn, r.options(V5, "five", true))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, "three rounds", func() bool { return r.count("verified again") >= 3 })
	if err := c.Publish(context.Background(), &Message{Topic: "t", QoS: 1}); err != nil {
		t.Error(err)
	}
	p.change(t) // the broker gives three seconds to find out
	select {
	case <-c.Done():
	case <-time.After(testkit.Patience):
		t.Fatal("the client has not noticed")
	}
	t.Log(c.Err())
}

// Clients of MQTT 3.1.1 connect anew before it is too late. One that keeps its session loses nothing.
func TestClientRenewsItsConnection(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprint("clean ", clean), func(t *testing.T) {
			p, r := startPlant(t), new(record)
			c, err := Last(context.Background(), Link{Dial: p.dial, Every: 300 * time.Millisecond}, r.options(V311, "three", clean))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
			defer cancel()
			if _, err := c.Subscribe(ctx, []Subscription{{Filter: "t", QoS: 1}}, nil); err != nil {
				t.Fatal(err)
			}
			other, err := net.Dial("tcp", p.Addr(server.PlainListener).String())
			if err != nil {
				t.Fatal(err)
			}
			publisher, err := Connect(ctx, other, new(record).options(V311, "publisher", true))
			if err != nil {
				t.Fatal(err)
			}
			sent := 0
			for r.count("connected anew") < 15 { // four and a half seconds: longer than the broker would leave a connection
				if err := publisher.Publish(ctx, &Message{Topic: "t", QoS: 1, Payload: fmt.Append(nil, sent)}); err != nil {
					t.Fatal(err)
				}
				sent++
				time.Sleep(5 * time.Millisecond)
			}
			p.arrives(t, r, "after")
			missed := 0
			for i := range sent {
				if r.has(fmt.Sprint(i)) == 0 {
					missed++
				}
			}
			t.Logf("%d of %d messages missed", missed, sent)
			if !clean && missed > 0 { // what comes while it connects anew, which may take a while, is lost to one that begins clean
				t.Errorf("%d of %d messages missed", missed, sent)
			}
			for _, x := range []Client{c, publisher} {
				if err := x.Disconnect(nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
