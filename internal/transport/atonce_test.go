package transport

import (
	"bytes"
	"crypto/tls"
	"net"
	"testing"

	"github.com/coder/websocket"

	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// atOnceBed is a client, and what the transport has of it, whose pump runs and whose writer does not.
func atOnceBed(t *testing.T, kind string) (client net.Conn, c *conn) {
	t.Helper()
	b := newBed(t, Limits{}, nil)
	config := ListenConfig{}
	if kind == "tls" {
		config.Handshake = withTLS(t)
	}
	b.listen(t, config)
	client = b.dial(t)
	if kind == "tls" {
		client = tls.Client(client, &tls.Config{InsecureSkipVerify: true})
	}
	write(t, client, mqtt.AppendPingreq(nil))
	expect(t, client, 2)
	c = b.table.all()[0]
	awaitWriter(t, c)
	return client, c
}

func awaitWriter(t *testing.T, c *conn) {
	t.Helper()
	testkit.Await(t, "the writer to end", func() bool { return !c.hasWriter() })
}

func (c *conn) hasWriter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writing
}

// Writing at once never waits for a client that does not read, and nothing is lost or changes places when it begins to.
func TestWritingAtOnceDoesNotWait(t *testing.T) {
	for _, kind := range []string{"plain", "tls"} {
		t.Run(kind, func(t *testing.T) {
			client, c := atOnceBed(t, kind)
			var want []byte
			atOnce := 0
			for i, behind := 0, 0; behind < 3; i++ {
				piece := bytes.Repeat([]byte{0xD0, byte(i)}, littleToWrite/2)
				want = append(want, piece...)
				c.send(piece)
				if !c.writeAtOnce() {
					c.wakeWriter(0)
					behind++
				} else if atOnce++; len(want) > 64<<20 {
					t.Fatalf("the socket took %d bytes that nobody reads", len(want))
				}
			}
			if atOnce == 0 || !c.hasWriter() {
				t.Fatalf("written at once %d times, then by a writer: %v", atOnce, c.hasWriter())
			}
			if got := expect(t, client, len(want)); !bytes.Equal(got, want) {
				t.Fatalf("%d bytes have come, but others than were sent", len(got))
			}
			awaitWriter(t, c)
			c.send([]byte("again"))
			if !c.writeAtOnce() || c.hasWriter() {
				t.Error("the client has read everything, and nothing is written to it at once")
			}
			expect(t, client, 5)
		})
	}
}

// While the pump reads through TLS, which may write to a client that does not read, nobody else waits for TLS.
func TestWritingAtOnceLeavesThePumpAlone(t *testing.T) {
	client, c := atOnceBed(t, "tls")
	c.layers.Lock()
	c.send([]byte("later"))
	if c.writeAtOnce() {
		t.Error("written at once while the pump reads")
	}
	c.layers.Unlock()
	c.wakeWriter(0)
	expect(t, client, 5)
}

// What lies above the inlet and is not known to end in it is left to a writer: a WebSocket answers pings while it reads.
func TestNothingIsWrittenAtOnceToWebSockets(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	client, err := webSocketTo(t, "ws://"+b.addr+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	send(t, client, websocket.MessageBinary, []byte{0xC0, 0})
	receiveBytes(t, client, 2)
	c := b.table.all()[0]
	awaitWriter(t, c)
	c.send([]byte{0xD0, 0})
	if c.writeAtOnce() {
		t.Error("written at once")
	}
	c.wakeWriter(0)
	receiveBytes(t, client, 2)
}
