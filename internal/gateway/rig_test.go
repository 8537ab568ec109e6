package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/gateway"
	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/servertest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func listen(t testing.TB) net.Listener {
	return Must(net.Listen("tcp", "127.0.0.1:0"))(t)
}

// running is a gateway until the end of the test.
type running struct {
	addr string
	log  *Buffer
	stop context.CancelFunc
	done chan error
}

func run(t testing.TB, config gateway.Config, listeners ...net.Listener) *running {
	t.Helper()
	if len(listeners) == 0 {
		listeners = []net.Listener{listen(t)}
	}
	g := &running{addr: listeners[0].Addr().String(), log: &Buffer{}, done: make(chan error, 1)}
	config.Log = servertest.Logger(g.log)
	if config.DialTimeout == 0 {
		config.DialTimeout = Patience
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = Patience
	}
	var ctx context.Context
	ctx, g.stop = context.WithCancel(context.Background())
	looked := make(chan struct{}, 1) // the gateway's own look at the broker comes before any client's
	dial := config.Dial
	config.Dial = func(ctx context.Context) (net.Conn, *client.Verdict, error) {
		conn, verdict, err := dial(ctx)
		select {
		case looked <- struct{}{}:
		default:
		}
		return conn, verdict, err
	}
	go func() { g.done <- gateway.Serve(ctx, config, listeners...) }()
	t.Cleanup(func() {
		g.stop()
		g.ended(t)
		if t.Failed() {
			t.Log(g.log)
		}
	})
	Receive(t, looked)
	return g
}

// ended waits until the gateway has ended in good order.
func (g *running) ended(t testing.TB) {
	t.Helper()
	select {
	case err := <-g.done:
		if err != nil {
			t.Error(err)
		}
		g.done <- nil // for the next who waits
	case <-time.After(Patience):
		t.Fatal("the gateway does not end")
	}
}

// broker is a development broker until the end of the test.
type broker struct {
	*servertest.Broker
	bundle *client.Bundle
}

func startBroker(t testing.TB, o server.DevelopmentOptions) *broker {
	t.Helper()
	return startChanged(t, o, func(*server.Config) {})
}

// startChanged is startBroker with a change to the configuration that comes of the options.
func startChanged(t testing.TB, o server.DevelopmentOptions, change func(*server.Config)) *broker {
	t.Helper()
	o.Plain = "-"
	b := servertest.Start(t, o, func(c *server.Config, _ *server.State) {
		c.Limits.Transport.HandshakeTimeout = Patience
		change(c)
	})
	return &broker{b, servertest.Bundle(t, b.State, b.Server)}
}

func (b *broker) connections(t testing.TB) int {
	t.Helper()
	s := Must(b.Stats(context.Background()))(t)
	return s.Transport.Connections
}

// to dials the broker of a bundle, with as much time as a loaded machine may need.
func to(b *client.Bundle) func(context.Context) (net.Conn, *client.Verdict, error) {
	return at(b, func() string { return "" })
}

// at is to, but for the address; "" is the bundle's.
func at(b *client.Bundle, address func() string) func(context.Context) (net.Conn, *client.Verdict, error) {
	return func(ctx context.Context) (net.Conn, *client.Verdict, error) {
		o := client.Options{HandshakeTimeout: Patience, EvidenceTimeout: Patience, Address: address()}
		conn, verdict, err := client.Dial(ctx, b, o)
		if err != nil {
			return nil, verdict, err
		}
		return conn, verdict, nil
	}
}

// fake is a broker that only a test knows: what the gateway connects comes on the channel.
func fake(t testing.TB) (dial func(context.Context) (net.Conn, *client.Verdict, error), came chan *net.TCPConn) {
	t.Helper()
	l := listen(t)
	came = make(chan *net.TCPConn, 16)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came <- c.(*net.TCPConn)
		}
	})
	t.Cleanup(func() { l.Close(); accepting.Wait() })
	first := true // the gateway's own look at the broker
	var mu sync.Mutex
	return func(ctx context.Context) (net.Conn, *client.Verdict, error) {
		mu.Lock()
		defer mu.Unlock()
		if first {
			first = false
			return nil, nil, context.Canceled
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		return conn, nil, err
	}, came
}

// connect opens a connection to the gateway, closed when the test ends.
func connect(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c := Must(net.Dial("tcp", addr))(t)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(Patience))
	return c.(*net.TCPConn)
}

func connectPacket(v mqtt.Version, id string) []byte {
	return mqtt.AppendConnect(nil, &mqtt.Connect{Version: v, CleanStart: true, KeepAlive: 60, ClientID: []byte(id)})
}

// connack reads the answer to a CONNECT.
func connack(t testing.TB, c io.Reader, v mqtt.Version) mqtt.ReasonCode {
	t.Helper()
	buf := make([]byte, 0, 256)
	for {
		if size, ok, _ := mqtt.FrameSize(buf); ok && len(buf) >= size {
			var ack mqtt.Connack
			if fault := mqtt.ParseConnack(buf[:size], v, &ack); fault != nil {
				t.Fatalf("%v: % x", fault.Err(), buf)
			}
			return ack.Reason
		}
		n, err := c.Read(buf[len(buf):cap(buf)])
		if buf = buf[:len(buf)+n]; err != nil {
			t.Fatalf("no CONNACK: %v after % x", err, buf)
		}
	}
}

// atEnd checks that nothing more comes.
func atEnd(t testing.TB, c io.Reader) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes, %v; want the end", n, err)
	}
}

var versions = []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}

func versionName(v mqtt.Version) string { return fmt.Sprintf("level %d", v) }
