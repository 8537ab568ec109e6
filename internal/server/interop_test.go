package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// dial opens what an MQTT client speaks over, one function for each listener and use of it.
var dial = map[string]func(t testing.TB, r *rig) net.Conn{
	"plain": func(t testing.TB, r *rig) net.Conn {
		c, err := net.Dial("tcp", r.Addr(server.PlainListener).String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	},
	"tls": func(t testing.TB, r *rig) net.Conn {
		c, err := tls.Dial("tcp", r.Addr(server.AttestedListener).String(), tlsConfig(r))
		if err != nil {
			t.Fatal(err)
		}
		return c
	},
	"attested": func(t testing.TB, r *rig) net.Conn {
		b, err := client.ReadBundle(r.bundle)
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := client.Dial(context.Background(), b, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	},
}

func tlsConfig(r *rig) *tls.Config {
	return &tls.Config{RootCAs: owner.Pool(r.state.Owner.Certificate()), ServerName: r.state.Service}
}

// inbox gathers messages.
type inbox struct {
	mu   sync.Mutex
	list []string
}

func (b *inbox) add(topic string, payload []byte, qos byte, retain bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, fmt.Sprintf("%s=%s q%d r%v", topic, payload, qos, retain))
}

func (b *inbox) has(message string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.list, message)
}

// mqttClient is what both paho clients can do.
type mqttClient interface {
	subscribe(t testing.TB, filter string, qos byte, in *inbox)
	publish(t testing.TB, topic, payload string, qos byte, retain bool)
	// die cuts the connection, so that the will is published.
	die()
	close()
}

// connect makes a client of each library over a connection.
var connect = map[string]func(t testing.TB, conn net.Conn, id, will string) mqttClient{
	"v5":     connect5,
	"v3.1.1": connect3,
}

type client5 struct {
	*paho5.Client
	conn net.Conn
	mu   sync.Mutex
	in   []*inbox
}

func connect5(t testing.TB, conn net.Conn, id, will string) mqttClient {
	c := &client5{conn: conn}
	c.Client = paho5.NewClient(paho5.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), PacketTimeout: Patience,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(p paho5.PublishReceived) (bool, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, in := range c.in {
				in.add(p.Packet.Topic, p.Packet.Payload, p.Packet.QoS, p.Packet.Retain)
			}
			return true, nil
		}},
	})
	packet := &paho5.Connect{ClientID: id, CleanStart: true, KeepAlive: 30}
	if will != "" {
		packet.WillMessage = &paho5.WillMessage{Topic: will, Payload: []byte("gone"), QoS: 1}
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if _, err := c.Connect(ctx, packet); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client5) subscribe(t testing.TB, filter string, qos byte, in *inbox) {
	c.mu.Lock()
	c.in = append(c.in, in)
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if _, err := c.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: filter, QoS: qos}}}); err != nil {
		t.Fatal(err)
	}
}

func (c *client5) publish(t testing.TB, topic, payload string, qos byte, retain bool) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if _, err := c.Publish(ctx, &paho5.Publish{Topic: topic, Payload: []byte(payload), QoS: qos, Retain: retain}); err != nil {
		t.Fatal(err)
	}
}

func (c *client5) die() { _ = c.conn.Close(); <-c.Done() }

func (c *client5) close() { _ = c.Disconnect(&paho5.Disconnect{}); <-c.Done() }

type client3 struct {
	paho3.Client
	conn net.Conn
}

func connect3(t testing.TB, conn net.Conn, id, will string) mqttClient {
	o := paho3.NewClientOptions().AddBroker("tcp://unused:1").SetClientID(id).SetProtocolVersion(4).
		SetAutoReconnect(false).SetCleanSession(true)
	o.CustomOpenConnectionFn = func(*url.URL, paho3.ClientOptions) (net.Conn, error) { return conn, nil }
	if will != "" {
		o.SetWill(will, "gone", 1, false)
	}
	c := &client3{paho3.NewClient(o), conn}
	wait3(t, c.Connect())
	return c
}

func wait3(t testing.TB, token paho3.Token) {
	t.Helper()
	if !token.WaitTimeout(Patience) || token.Error() != nil {
		t.Fatalf("no answer, or error %v", token.Error())
	}
}

func (c *client3) subscribe(t testing.TB, filter string, qos byte, in *inbox) {
	wait3(t, c.Subscribe(filter, qos, func(_ paho3.Client, m paho3.Message) {
		in.add(m.Topic(), m.Payload(), m.Qos(), m.Retained())
	}))
}

func (c *client3) publish(t testing.TB, topic, payload string, qos byte, retain bool) {
	wait3(t, c.Publish(topic, qos, retain, payload))
}

func (c *client3) die() { _ = c.conn.Close(); c.Client.Disconnect(0) }

func (c *client3) close() { c.Client.Disconnect(100) }

// Every QoS, retained messages and wills, between clients of both versions, over every kind of listener.
func TestPahoClients(t *testing.T) {
	for _, kind := range engines() {
		r := start(t, kind, nil)
		for over := range dial {
			for subscriber := range connect {
				for publisher := range connect {
					t.Run(fmt.Sprintf("%s/%s/%s to %s", kind, over, publisher, subscriber), func(t *testing.T) {
						exchange(t, r, over, publisher, subscriber)
					})
				}
			}
		}
	}
}

func exchange(t *testing.T, r *rig, over, publisher, subscriber string) {
	base := strings.ReplaceAll(t.Name(), " ", "_")
	pub := connect[publisher](t, dial[over](t, r), base+"/pub", base+"/will")
	sub := connect[subscriber](t, dial[over](t, r), base+"/sub", "")
	defer sub.close()
	pub.publish(t, base+"/kept", "old", 1, true)
	in := &inbox{}
	sub.subscribe(t, base+"/#", 2, in)
	Await(t, "the retained message", func() bool { return in.has(base + "/kept=old q1 rtrue") })
	for qos := range byte(3) {
		pub.publish(t, base+"/live", "new", qos, false)
		Await(t, fmt.Sprintf("the message of QoS %d", qos), func() bool {
			return in.has(fmt.Sprintf("%s/live=new q%d rfalse", base, qos))
		})
	}
	pub.publish(t, base+"/kept", "", 1, true)
	pub.die()
	Await(t, "the will", func() bool { return in.has(base + "/will=gone q1 rfalse") })
}

// needTool skips a test that needs a program; in CI a missing one is a failure.
func needTool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		missing(t, name)
	}
}

// missing ends a test for want of something that tools/get-test-tools would have got.
func missing(t testing.TB, name string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is missing", name)
}
