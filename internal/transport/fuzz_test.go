package transport

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// canned is a connection whose other side has said all that it ever says, and takes everything.
type canned struct {
	net.Conn
	in     *bytes.Reader
	out    int
	closed bool
}

func (c *canned) Read(b []byte) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.in.Read(b)
}

func (c *canned) Write(b []byte) (int, error) {
	c.out += len(b)
	return len(b), nil
}
func (c *canned) Close() error                     { c.closed = true; return nil }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// Whatever comes before a proxied connection must be read as a header, or refused, and what follows kept.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 1234 1883\r\nrest"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add(proxyHeaderOf(f, proxyproto.PROXY, "192.0.2.7:1", certificateTLV(f, "alice", 0)))
	f.Add(proxyHeaderOf(f, proxyproto.LOCAL, "[2001:db8::1]:1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		stream := &canned{in: bytes.NewReader(b)}
		reader := bufio.NewReaderSize(stream, 512)
		h, err := readProxyHeader(reader, &Proxy{CommonName: true})
		if err != nil {
			return
		}
		if h.local && (h.address.IsValid() || h.user != "") {
			t.Fatalf("local header with %+v", h)
		}
		rest, err := io.ReadAll(unread(stream, reader))
		if err != nil || !bytes.HasSuffix(b, rest) || len(rest) >= len(b) {
			t.Fatalf("%d of %d bytes are left, %v", len(rest), len(b), err)
		}
	})
}

// Whatever comes after the request must be read as frames, or end the connection.
func FuzzWebSocketFrames(f *testing.F) {
	f.Add([]byte{0x82, 0x82, 0, 0, 0, 0, 0xC0, 0})
	f.Add([]byte{0x02, 0x81, 1, 2, 3, 4, 0xC1, 0x89, 0x80, 0, 0, 0, 0, 0x80, 0x81, 0, 0, 0, 0, 0})
	f.Add([]byte{0x81, 0x82, 0, 0, 0, 0, 0xC0, 0})
	f.Add([]byte{0x88, 0x82, 0, 0, 0, 0, 3, 0xE8})
	f.Add([]byte{0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4})
	request := []byte(upgradeRequest("/mqtt", "Sec-WebSocket-Protocol: mqtt"))
	f.Fuzz(func(t *testing.T, frames []byte) {
		stream := &canned{in: bytes.NewReader(append(request[:len(request):len(request)], frames...))}
		c, err := new(WebSocket).upgrade(stream)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, io.LimitReader(c, 1<<20))
		if n > int64(len(frames)) {
			t.Fatalf("%d bytes out of %d, %v", n, len(frames), err)
		}
		c.(*webSocket).release()
		if !stream.closed {
			t.Fatal("the stream is still open")
		}
	})
}

// Whatever is sent in place of a request must be answered, or end the connection.
func FuzzHTTPRequest(f *testing.F) {
	f.Add(upgradeRequest("/mqtt", "Sec-WebSocket-Protocol: mqtt"))
	f.Add(upgradeRequest("/mqtt", "Origin: http://x", "Transfer-Encoding: chunked"))
	f.Add("GET / HTTP/1.0\r\n\r\n")
	f.Add("X: " + strings.Repeat("x", maxRequest))
	f.Fuzz(func(t *testing.T, request string) {
		stream := &canned{in: bytes.NewReader([]byte(request))}
		c, err := new(WebSocket).upgrade(stream)
		if (c == nil) == (err == nil) {
			t.Fatalf("stream %v, error %v", c, err)
		}
		if c != nil {
			c.(*webSocket).release()
		}
	})
}

// Whatever a client sends before it has logged in, the core gets whole packets, one for each time it asks, in order.
func FuzzGate(f *testing.F) {
	f.Add([]byte{0x10, 2, 1, 2, 0xC0, 0, 0x30, 3, 1, 2, 3}, []byte{3, 1, 5})
	f.Add([]byte{0x10, 0, 0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1}, []byte{1, 200})
	f.Fuzz(func(t *testing.T, sent, pieces []byte) {
		const most = 100
		g := &gate{in: getBuffer(smallBuffer), credit: true}
		var got []byte
		pass := func() {
			next := g.next(most)
			if next.whole.packets > 1 && !g.open {
				t.Fatalf("%d packets pass at a time", next.whole.packets)
			}
			got = append(got, next.packets...)
		}
		for rest, i := sent, 0; len(rest) > 0; i++ {
			n := len(rest)
			if i < len(pieces) {
				n = min(n, int(pieces[i]))
			}
			room := g.room(most)
			if len(room) == 0 {
				break
			}
			n = copy(room, rest[:n])
			rest = rest[n:]
			g.came(n)
			pass()
			g.credit, g.open = i%2 == 0, i > 10
			pass()
			if cap(g.in.b) > 2*gateBuffer {
				t.Fatalf("%d bytes are kept", cap(g.in.b))
			}
			if i > len(pieces) && n == 0 {
				break
			}
		}
		if whole, _ := cut(sent, most); !bytes.HasPrefix(sent, got) || len(got) > whole.size {
			t.Fatalf("% x is handed over as % x", sent, got)
		}
		if size, ok, _ := mqtt.FrameSize(got); len(got) > 0 && (!ok || size > len(got)) {
			t.Fatalf("% x is no packet", got)
		}
	})
}
