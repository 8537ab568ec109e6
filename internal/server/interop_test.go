package server_test

import (
	"bytes"
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
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/server"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// await waits until a condition holds.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

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
		Conn: conn, PacketTimeout: patience,
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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: filter, QoS: qos}}}); err != nil {
		t.Fatal(err)
	}
}

func (c *client5) publish(t testing.TB, topic, payload string, qos byte, retain bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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
	if !token.WaitTimeout(patience) || token.Error() != nil {
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
	for _, kind := range engines {
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
	await(t, "the retained message", func() bool { return in.has(base + "/kept=old q1 rtrue") })
	for qos := range byte(3) {
		pub.publish(t, base+"/live", "new", qos, false)
		await(t, fmt.Sprintf("the message of QoS %d", qos), func() bool {
			return in.has(fmt.Sprintf("%s/live=new q%d rfalse", base, qos))
		})
	}
	pub.publish(t, base+"/kept", "", 1, true)
	pub.die()
	await(t, "the will", func() bool { return in.has(base + "/will=gone q1 rfalse") })
}

// needTool skips a test that needs a program; in CI a missing one is a failure.
func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is missing", name)
}

// Debian's command line clients, in both versions, over plain TCP and TLS: clients that know the standard and nothing
// of this broker. [MQTT311-7.0.0-2]
func TestMosquittoClients(t *testing.T) {
	needTool(t, "mosquitto_pub")
	needTool(t, "mosquitto_sub")
	for _, kind := range engines {
		r := start(t, kind, nil)
		for _, over := range []string{"plain", "tls"} {
			for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
				for _, qos := range []string{"0", "1", "2"} {
					t.Run(fmt.Sprint(kind, "/", over, "/", version, "/qos", qos), func(t *testing.T) {
						mosquittoExchange(t, r, over, version, qos)
					})
				}
			}
		}
	}
}

func mosquittoExchange(t *testing.T, r *rig, over, version, qos string) {
	topic := "mosquitto/" + over + version + qos
	args := func(more ...string) []string {
		listener := server.PlainListener
		if over == "tls" {
			listener = server.AttestedListener
			more = append(more, "--cafile", r.state.Path(server.OwnerCAFile))
		}
		_, port, _ := net.SplitHostPort(r.Addr(listener).String())
		return append([]string{"-h", "localhost", "-p", port, "-V", version, "-q", qos}, more...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	publish := func(args ...string) {
		if out, err := exec.CommandContext(ctx, "mosquitto_pub", args...).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v\n%s", err, out)
		}
	}
	publish(args("-t", topic+"/kept", "-m", "retained", "-r")...)
	sub := exec.CommandContext(ctx, "mosquitto_sub", args("-t", topic+"/#", "-C", "3", "-F", "%t %q %r %p")...)
	var out, errs safeBuffer
	sub.Stdout, sub.Stderr = &out, &errs
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the retained message: "+errs.String(), func() bool { return strings.Contains(out.String(), "retained") })
	publish(args("-t", topic+"/live", "-m", "first")...)
	publish(args("-t", topic+"/live", "-m", strings.Repeat("long", 25_000))...)
	if err := sub.Wait(); err != nil {
		t.Fatalf("mosquitto_sub: %v\n%s", err, errs.String())
	}
	want := fmt.Sprintf("%[1]s/kept %[2]s 1 retained\n%[1]s/live %[2]s 0 first\n%[1]s/live %[2]s 0 %[3]s\n", topic, qos, strings.Repeat("long", 25_000))
	if out.String() != want {
		t.Fatalf("mosquitto_sub printed %.300q", out.String())
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
