package pubsub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// link is a Link to the plant, by its bundle, with attempts that follow each other quickly.
func (p *plant) link(renewed <-chan struct{}) Link {
	return Link{
		Dial: p.dial, Reconnect: true, Renewed: renewed, Pause: 20 * time.Millisecond, LongestPause: 100 * time.Millisecond,
		Reappraise: func(c *atls.Conn) *client.Verdict { return p.bundle.Load().Reappraise(c, client.Options{}) },
	}
}

func (p *plant) dialPlain(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", p.Addr(server.PlainListener).String())
}

// subscribed returns a client that lasts and is subscribed to t.
func subscribed(t *testing.T, link Link, o Options) Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	c, err := Last(ctx, link, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(nil) })
	if _, err := c.Subscribe(ctx, []Subscription{{Filter: "t", QoS: 1}}, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// restart ends the broker, and starts it again.
func (p *plant) restart(t *testing.T) {
	t.Helper()
	p.stop(t)
	p.start(t)
}

// arrives has a message published, and waits for it.
func (p *plant) arrives(t *testing.T, r *record, payload string) {
	t.Helper()
	conn, err := p.dialPlain(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	publisher, err := Connect(context.Background(), conn, Options{Version: V311, ClientID: "arrives", CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Disconnect(nil)
	testkit.Await(t, payload, func() bool {
		if err := publisher.Publish(context.Background(), &Message{Topic: "t", QoS: 1, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
		return r.has(payload) > 0
	})
}

var versions = []Version{V5, V311}

// A client whose broker goes away and comes back is subscribed as before.
func TestClientConnectsAnew(t *testing.T) {
	for _, v := range versions {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			p, r := startPlant(t), new(record)
			subscribed(t, p.link(nil), r.options(v, "lasting", true))
			p.arrives(t, r, "before")
			p.restart(t)
			p.arrives(t, r, "after")
			testkit.Await(t, "a word about it", func() bool {
				return r.count("connecting anew in") > 0 && r.count("connected anew: the broker has been verified again") > 0
			})
		})
	}
}

// A client that does not reconnect says why it ends.
func TestClientEndsWithItsConnection(t *testing.T) {
	p, r := startPlant(t), new(record)
	link := p.link(nil)
	link.Reconnect = false
	c := subscribed(t, link, r.options(V5, "lasting", true))
	p.restart(t)
	testkit.Receive(t, c.Done())
	var refusal *Refusal
	if err := c.Err(); !errors.As(err, &refusal) || refusal.Reason != 0x8B {
		t.Error(err)
	}
}

// A client whose session has gone to another one of its name leaves it there.
func TestClientLeavesItsSessionToAnother(t *testing.T) {
	p, r := startPlant(t), new(record)
	c := subscribed(t, p.link(nil), r.options(V5, "lasting", true))
	conn, err := p.dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	other, err := Connect(context.Background(), conn, new(record).options(V5, "lasting", true))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Disconnect(nil)
	testkit.Receive(t, c.Done())
	var refusal *Refusal
	if err := c.Err(); !errors.As(err, &refusal) || refusal.Reason != 0x8E {
		t.Error(err)
	}
}

// A client is told that the broker attests another configuration, and looks at once, not when the next round is due: with
// MQTT 5 on its connection, with 3.1.1 by another that takes its place. What it is told does not show among its messages.
func TestClientFollowsAChangedBroker(t *testing.T) {
	for _, v := range versions {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			p, r := startPlant(t), new(record)
			p.config.Attestation = server.Attestation{Reattest: time.Hour, Grace: time.Hour}
			if err := p.Reload(context.Background(), p.config); err != nil {
				t.Fatal(err)
			}
			p.bundle.Store(p.pinning(t, attest.Digest{}))
			subscribed(t, p.link(nil), r.options(v, "lasting", true))
			p.change(t)
			testkit.Await(t, "a look at the broker", func() bool { return r.count("verified again") > 0 })
			if n := r.count("connecting anew in"); v == V311 && n > 0 {
				t.Error("the connection was lost before there was another")
			}
			p.arrives(t, r, "after")
			if first := r.first(); first != "after" {
				t.Errorf("the first message is %q", first)
			}
		})
	}
}

// pinning is the bundle of the plant for another configuration; the zero value is any.
func (p *plant) pinning(t *testing.T, config attest.Digest) *client.Bundle {
	t.Helper()
	b := *p.bundle.Load()
	id := policy.Simulated("broker", p.Identity().Module, config, p.key.Digest())
	var err error
	if b.Policy, err = policy.New([]policy.Identity{id}, nil); err != nil {
		t.Fatal(err)
	}
	return &b
}

// A broker whose changed configuration the bundle does not accept is left at once. If the bundle has been renewed along with it, the client goes
// on; else that is the end.
func TestClientLeavesAChangedBroker(t *testing.T) {
	for _, v := range versions {
		for _, renewed := range []bool{true, false} {
			t.Run(fmt.Sprintf("version %d renewed %v", v, renewed), func(t *testing.T) {
				p, r := startPlant(t), new(record)
				link := p.link(nil)
				link.Pause, link.LongestPause = 300*time.Millisecond, time.Second
				c := subscribed(t, link, r.options(v, "lasting", true))
				p.change(t)
				if renewed {
					p.writeBundle(t)
					p.arrives(t, r, "after")
					return
				}
				testkit.Receive(t, c.Done())
				if kind := policy.KindOf(c.Err()); kind != attest.ErrConfig {
					t.Error(c.Err())
				}
				if r.count("REFUSED") == 0 {
					t.Error(r.said)
				}
			})
		}
	}
}

// A broker that a renewed bundle does not accept is left, though it has not changed.
func TestClientJudgesByARenewedBundle(t *testing.T) {
	p, r, renewed := startPlant(t), new(record), make(chan struct{})
	c := subscribed(t, p.link(renewed), r.options(V5, "lasting", true))
	renewed <- struct{}{}
	testkit.Await(t, "a verdict", func() bool { return r.count("what the renewed bundle says, too") == 1 })
	p.bundle.Store(p.pinning(t, attest.Sum([]byte("another"))))
	renewed <- struct{}{}
	testkit.Receive(t, c.Done())
	if kind := policy.KindOf(c.Err()); kind != attest.ErrConfig {
		t.Error(c.Err())
	}
}

// What could not be sent while the broker was away is sent when it is back.
func TestPublisherWaitsForItsBroker(t *testing.T) {
	for _, v := range versions {
		p := startPlant(t)
		c, err := Last(context.Background(), p.link(nil), new(record).options(v, "publisher", true))
		if err != nil {
			t.Fatal(err)
		}
		p.stop(t)
		sent := make(chan error, 1)
		go func() {
			sent <- c.Publish(context.Background(), &Message{Topic: "t", QoS: 1, Retain: true, Payload: []byte("late")})
		}()
		p.start(t)
		if err := testkit.Receive(t, sent); err != nil {
			t.Error(err)
		}
		r := new(record)
		subscribed(t, p.link(nil), r.options(v, "reader", true))
		testkit.Await(t, "the message", func() bool { return r.has("late") == 1 })
		_ = c.Disconnect(nil)
	}
}

// A session that outlives its connections is not begun anew with the next one.
func TestSessionOutlivesItsConnection(t *testing.T) {
	for value, want := range map[string]bool{"": true, "0": true, "60": false} {
		o := Options{Version: V5, CleanStart: true}
		if value != "" {
			o.Properties = Properties{{Name: "session-expiry-interval", Value: value}}
		}
		if got := o.cleanAgain(); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestWhatPasses(t *testing.T) {
	for _, c := range []struct {
		err              error
		passes, standing bool
	}{
		{ErrLost, true, true},
		{&Refusal{Reason: 0x8B}, true, true},
		{&Refusal{Reason: 3}, true, true},
		{&Refusal{Reason: 0x87}, false, true},
		{&Refusal{Reason: 0x8E}, false, false},
		{&Refusal{Reason: 5}, false, false},
		{attest.Errorf(attest.ErrConfig, "x"), false, true},
		{attest.Errorf(attest.ErrTimeout, "x"), true, true},
		{attest.Errorf(attest.ErrMissing, "x"), true, true},
		{fmt.Errorf("%w", client.ErrBundleExpired), false, true},
	} {
		if passes(c.err) != c.passes || passesStanding(c.err) != c.standing {
			t.Errorf("%v: %v %v", c.err, passes(c.err), passesStanding(c.err))
		}
	}
}
