package gateway_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/vouchmq/vouchmq/internal/gateway"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// tool skips a test without a program. With CI=true a missing one is a failure.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is not installed, and CI=true", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// TestMosquitto: the programs that people use, as they are, in all three versions.
func TestMosquitto(t *testing.T) {
	pub, sub := tool(t, "mosquitto_pub"), tool(t, "mosquitto_sub")
	b := startBroker(t, server.DevelopmentOptions{})
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	host, port, _ := net.SplitHostPort(g.addr)
	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			where := []string{"-h", host, "-p", port, "-V", version, "-t", "plant/" + version, "-q", "2"}
			ctx, cancel := context.WithTimeout(context.Background(), Patience)
			defer cancel()
			// Retained, so that it does not matter who comes first.
			publish := exec.CommandContext(ctx, pub, append(where, "-m", "21.5", "-r", "-i", "p")...)
			if out, err := publish.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			got, err := exec.CommandContext(ctx, sub, append(where, "-C", "1", "-i", "s")...).CombinedOutput()
			if err != nil || strings.TrimSpace(string(got)) != "21.5" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestPaho311 goes through TCP and through a Unix socket.
func TestPaho311(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	path := filepath.Join(t.TempDir(), "s")
	g := run(t, gateway.Config{Dial: to(b.bundle)}, listen(t), Must(transport.ListenUnix(path, 0o600))(t))
	for i, url := range []string{"tcp://" + g.addr, "unix://" + path} {
		got := make(chan string, 10)
		c := paho3.NewClient(paho3.NewClientOptions().AddBroker(url).SetClientID(fmt.Sprint("paho-", i)).SetProtocolVersion(4).SetConnectTimeout(Patience))
		done(t, c.Connect())
		done(t, c.Subscribe("plant/#", 1, func(_ paho3.Client, m paho3.Message) { got <- m.Topic() + "=" + string(m.Payload()) }))
		done(t, c.Publish("plant/1", 1, false, "21.5"))
		if m := Receive(t, got); m != "plant/1=21.5" {
			t.Error(m)
		}
		c.Disconnect(100)
	}
}

func done(t testing.TB, token paho3.Token) {
	t.Helper()
	if !token.WaitTimeout(Patience) {
		t.Fatal("no answer")
	}
	if token.Error() != nil {
		t.Fatal(token.Error())
	}
}

func TestPaho5(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	got := make(chan string, 10)
	c := paho5.NewClient(paho5.ClientConfig{
		Conn: packets.NewThreadSafeConn(Must(net.DialTimeout("tcp", g.addr, Patience))(t)), PacketTimeout: Patience,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(p paho5.PublishReceived) (bool, error) {
			got <- p.Packet.Topic + "=" + string(p.Packet.Payload)
			return true, nil
		}},
	})
	Must(c.Connect(ctx, &paho5.Connect{ClientID: "paho", CleanStart: true, KeepAlive: 30}))(t)
	Must(c.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: "plant/#", QoS: 2}}}))(t)
	Must(c.Publish(ctx, &paho5.Publish{Topic: "plant/1", QoS: 2, Payload: []byte("21.5")}))(t)
	if m := Receive(t, got); m != "plant/1=21.5" {
		t.Error(m)
	}
	if err := c.Disconnect(&paho5.Disconnect{}); err != nil {
		t.Error(err)
	}
}
