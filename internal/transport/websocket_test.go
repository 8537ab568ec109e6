package transport

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// webSocketTo dials a WebSocket listener as a client of MQTT does.
func webSocketTo(t testing.TB, url string, options *websocket.DialOptions) (*websocket.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if options == nil {
		options = &websocket.DialOptions{Subprotocols: []string{"mqtt"}}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	options.HTTPClient = &http.Client{Transport: transport}
	c, _, err := websocket.Dial(ctx, url, options)
	transport.CloseIdleConnections()
	if err == nil {
		t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, err
}

func (b *bed) webSocket(t testing.TB) *websocket.Conn {
	t.Helper()
	c, err := webSocketTo(t, "ws://"+b.addr+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t testing.TB, c *websocket.Conn, kind websocket.MessageType, b []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := c.Write(ctx, kind, b); err != nil {
		t.Fatal(err)
	}
}

func receive(t testing.TB, c *websocket.Conn) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	kind, b, err := c.Read(ctx)
	if err == nil && kind != websocket.MessageBinary {
		t.Fatalf("a frame of kind %v", kind)
	}
	return b, err
}

// receiveBytes reads until n bytes have come, in however many frames.
func receiveBytes(t testing.TB, c *websocket.Conn, n int) []byte {
	t.Helper()
	var got []byte
	for len(got) < n {
		b, err := receive(t, c)
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
		got = append(got, b...)
	}
	return got
}

// [MQTT-6.0.0-1] [MQTT311-6.0.0-1] [MQTT-6.0.0-2] [MQTT311-6.0.0-2]: packets travel in binary frames, whose borders mean nothing.
func TestWebSocketPacketsAndFrames(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	sub, pub := b.webSocket(t), b.webSocket(t)
	send(t, sub, websocket.MessageBinary, []byte{0x82, 0})
	receiveBytes(t, sub, 2)
	want := messages(0, 1, 3)
	send(t, pub, websocket.MessageBinary, want[:packetSize+5]) // one and a bit
	send(t, pub, websocket.MessageBinary, nil)
	for _, piece := range bytes.SplitAfter(want[packetSize+5:], []byte{0}) {
		send(t, pub, websocket.MessageBinary, piece)
	}
	if got := receiveBytes(t, sub, len(want)); !bytes.Equal(got, want) {
		t.Fatalf("got % x", got)
	}
	large := append(appendLength([]byte{0x30}, 900_000), make([]byte, 900_000)...)
	sub.SetReadLimit(-1)
	send(t, pub, websocket.MessageBinary, large)
	receiveBytes(t, sub, len(large))
}

// [MQTT-6.0.0-1] [MQTT311-6.0.0-1]
func TestWebSocketTextFrameEndsTheConnection(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	c := b.webSocket(t)
	send(t, c, websocket.MessageText, []byte{0xC0, 0})
	if _, err := receive(t, c); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Fatalf("ended with %v", err)
	}
	testkit.Await(t, "the end", func() bool { return b.hubs.count(abi.EventClosed) == 1 && b.Stats().Connections == 0 })
	if b.hubs.count(abi.EventPackets) != 0 {
		t.Fatal("the text went to the core")
	}
}

// A text frame that never ends must not hold the connection.
func TestWebSocketEndlessTextFrame(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	c := b.upgraded(t)
	write(t, c, []byte{0x81, 0xFF, 0x10, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 'x'})
	expectEnd(t, c)
	testkit.Await(t, "the end", func() bool { return b.Stats().Connections == 0 })
}

// upgraded is a connection on which frames may be written by hand.
func (b *bed) upgraded(t testing.TB) net.Conn {
	t.Helper()
	c := b.dial(t)
	write(t, c, []byte(upgradeRequest("/mqtt", "Sec-WebSocket-Protocol: mqtt")))
	var got []byte
	for !bytes.HasSuffix(got, []byte("\r\n\r\n")) {
		got = append(got, expect(t, c, 1)...)
	}
	if !strings.HasPrefix(string(got), "HTTP/1.1 101 ") || !strings.Contains(strings.ToLower(string(got)), "sec-websocket-protocol: mqtt\r\n") {
		t.Fatalf("answer %q", got)
	}
	return c
}

func upgradeRequest(path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: broker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n" + strings.Join(append(headers, "\r\n"), "\r\n")
}

func TestWebSocketFramesThatAreWrong(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	for name, frame := range map[string][]byte{
		"not masked":           {0x82, 2, 0xC0, 0},
		"reserved bits":        {0xF2, 0x82, 0, 0, 0, 0, 0xC0, 0},
		"unknown opcode":       {0x83, 0x82, 0, 0, 0, 0, 0xC0, 0},
		"continues nothing":    {0x80, 0x82, 0, 0, 0, 0, 0xC0, 0},
		"large ping":           {0x89, 0xFE, 0x10, 0, 0, 0, 0, 0},
		"negative length":      {0x82, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"compressed":           {0xC2, 0x82, 0, 0, 0, 0, 0xC0, 0},
		"close with bad code":  {0x88, 0x82, 0, 0, 0, 0, 0, 1},
		"close with half code": {0x88, 0x81, 0, 0, 0, 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := b.upgraded(t)
			write(t, c, frame)
			expectEnd(t, c)
		})
	}
	testkit.Await(t, "their ends", func() bool { return b.Stats().Connections == 0 })
	if b.hubs.count(abi.EventPackets) != 0 {
		t.Fatal("something went to the core")
	}
}

func TestWebSocketPing(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	c := b.upgraded(t)
	write(t, c, []byte{0x89, 0x83, 0, 0, 0, 0, 'a', 'b', 'c'})
	if got := expect(t, c, 5); string(got) != "\x8A\x03abc" {
		t.Fatalf("answer % x", got)
	}
}

// What the core wrote before it closed arrives whole, and then the goodbye.
func TestWebSocketFarewell(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	c := b.webSocket(t)
	c.SetReadLimit(-1)
	send(t, c, websocket.MessageBinary, []byte{0xE0, 0})
	size := 0
	for {
		p, err := receive(t, c)
		if size += len(p); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
				t.Fatalf("ended with %v", err)
			}
			break
		}
	}
	if size != 2<<20 {
		t.Fatalf("%d bytes", size)
	}
	testkit.Await(t, "the end", func() bool { return b.Stats().Connections == 0 })
}

func TestWebSocketClientCloses(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	c := b.webSocket(t)
	send(t, c, websocket.MessageBinary, []byte{0xC0, 0})
	receiveBytes(t, c, 2)
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, "the end", func() bool { return b.hubs.count(abi.EventClosed) == 1 && b.Stats().Connections == 0 })
}

// A client that does not answer the goodbye does not stay.
func TestWebSocketClientIgnoresFarewell(t *testing.T) {
	b := newBed(t, Limits{FarewellTimeout: 50 * time.Millisecond}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	c := b.upgraded(t)
	write(t, c, []byte{0x82, 0x82, 0, 0, 0, 0, 0xE0, 0})
	if got := expectEnd(t, c); len(got) < 2<<20 {
		t.Fatalf("%d bytes", len(got))
	}
	testkit.Await(t, "the end", func() bool { return b.Stats().Connections == 0 })
}

func TestWebSocketClientThatDoesNotRead(t *testing.T) {
	b := newBed(t, Limits{SoftBacklog: 4 << 10, HardBacklog: 64 << 10, MaxPacketSize: 1000}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	c := b.upgraded(t)
	ping := append([]byte{0x82, 0xFE, 0xFF, 0xFE, 0, 0, 0, 0}, bytes.Repeat([]byte{0xC0, 0}, 0x7FFF)...)
	_ = c.SetWriteDeadline(time.Now().Add(testkit.Patience))
	for b.Stats().Connections > 0 {
		if _, err := c.Write(ping); err != nil {
			break
		}
	}
	testkit.Await(t, "the end", func() bool { return b.Stats().Overflowed == 1 && b.Stats().Connections == 0 })
}

func TestHTTPRequestsThatAreRefused(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{Path: "/broker", Origins: []string{"*.example.com"}}})
	const protocol = "Sec-WebSocket-Protocol: mqtt"
	for _, test := range []struct {
		name, request string
		status        int
	}{
		{"accepted", upgradeRequest("/broker", protocol), 101},
		{"3.1", upgradeRequest("/broker", "Sec-WebSocket-Protocol: soap, mqttv3.1"), 101},
		{"same origin", upgradeRequest("/broker", protocol, "Origin: http://broker"), 101},
		{"listed origin", upgradeRequest("/broker", protocol, "Origin: https://app.example.com"), 101},
		{"other origin", upgradeRequest("/broker", protocol, "Origin: https://evil.example"), 403},
		{"origin without host", upgradeRequest("/broker", protocol, "Origin: null"), 403},
		{"other path", upgradeRequest("/", protocol), 404},
		{"no sub-protocol", upgradeRequest("/broker"), 400}, // [MQTT-6.0.0-3]
		{"other sub-protocol", upgradeRequest("/broker", "Sec-WebSocket-Protocol: mqtts"), 400},
		{"body", upgradeRequest("/broker", protocol, "Content-Length: 3"), 400},
		{"other version", strings.Replace(upgradeRequest("/broker", protocol), ": 13", ": 8", 1), 400},
		{"no upgrade", "GET /broker HTTP/1.1\r\nHost: broker\r\n\r\n", 426},
		{"POST", strings.Replace(upgradeRequest("/broker", protocol), "GET", "POST", 1), 405},
		{"no HTTP", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\r\n\r\n", 400},
		{"MQTT", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", 400}, // without a line to wait for
		{"too large", upgradeRequest("/broker", protocol, "X: "+strings.Repeat("x", maxRequest)), 431},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := b.dial(t)
			write(t, c, []byte(test.request))
			if test.status == 101 {
				if got := expect(t, c, 13); string(got) != "HTTP/1.1 101 " {
					t.Fatalf("answer %q", got)
				}
				return
			}
			got := string(expectEnd(t, c))
			if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", test.status)) || !strings.Contains(got, "Connection: close") {
				t.Fatalf("answer %q", got)
			}
		})
	}
}

// [MQTT-6.0.0-4] [MQTT311-6.0.0-4]
func TestWebSocketSubprotocol(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	for _, offer := range [][]string{{"mqtt"}, {"soap", "mqtt"}, {"mqtt", "soap"}} {
		c, err := webSocketTo(t, "ws://"+b.addr+"/mqtt", &websocket.DialOptions{Subprotocols: offer})
		if err != nil {
			t.Fatal(err)
		}
		if c.Subprotocol() != "mqtt" {
			t.Errorf("of %q the broker has selected %q", offer, c.Subprotocol())
		}
	}
}

// A listener for pages of any origin.
func TestWebSocketAnyOrigin(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{Origins: []string{"*"}}})
	c := b.dial(t)
	write(t, c, []byte(upgradeRequest("/mqtt", "Sec-WebSocket-Protocol: mqtt", "Origin: null")))
	if got := expect(t, c, 13); string(got) != "HTTP/1.1 101 " {
		t.Fatalf("answer %q", got)
	}
}

func TestWebSocketConfigThatIsWrong(t *testing.T) {
	tr := New(Config{})
	for _, config := range []WebSocket{{Path: "mqtt"}, {Origins: []string{"[a"}}} {
		socket, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Listen(socket, ListenConfig{Name: "x", WebSocket: &config}); err == nil {
			t.Errorf("%+v is accepted", config)
		}
	}
}

// A header that comes byte by byte has the time of a handshake, however busy the client looks.
func TestSlowHTTPRequest(t *testing.T) {
	b := newBed(t, Limits{HandshakeTimeout: 100 * time.Millisecond}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	c := b.dial(t)
	for deadline := time.Now().Add(testkit.Patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := c.Write([]byte("G")); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection was not ended")
		}
	}
	testkit.Await(t, "the failure", func() bool { return b.Stats().FailedHandshakes == 1 && b.Stats().Connections == 0 })
}

// Requests that never come are handshakes: the oldest makes way.
func TestHalfOpenWebSockets(t *testing.T) {
	b := newBed(t, Limits{MaxHandshakes: 3, HandshakeTimeout: time.Hour}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	first := b.dial(t)
	testkit.Await(t, "the first", func() bool { return b.Stats().Handshakes == 1 })
	for range 10 {
		b.dial(t)
	}
	expectEnd(t, first)
	b.webSocket(t)
}

// withTLS is a handshake with a certificate of its own.
func withTLS(t testing.TB) Handshake {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func(ctx context.Context, socket net.Conn) (Secured, error) {
		c := tls.Server(socket, config)
		return Secured{Stream: c, User: "tls"}, c.HandshakeContext(ctx)
	}
}

func TestSecureWebSocket(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{Handshake: withTLS(t), WebSocket: &WebSocket{}})
	c, err := webSocketTo(t, "wss://"+b.addr+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, websocket.MessageBinary, []byte{0xC0, 0})
	receiveBytes(t, c, 2)
	send(t, c, websocket.MessageBinary, []byte{0xE0, 0})
	c.SetReadLimit(-1)
	for err == nil {
		_, err = receive(t, c)
	}
	if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Fatalf("ended with %v", err)
	}
}

// A frame that came along with the request is not lost.
func TestWebSocketFrameBehindTheRequest(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{WebSocket: &WebSocket{}})
	c := b.dial(t)
	write(t, c, append([]byte(upgradeRequest("/mqtt", "Sec-WebSocket-Protocol: mqtt")), 0x82, 0x82, 0, 0, 0, 0, 0xC0, 0))
	_ = c.SetReadDeadline(time.Now().Add(testkit.Patience))
	var got []byte
	for !bytes.HasSuffix(got, []byte("\x82\x02\xD0\x00")) {
		p := make([]byte, 1)
		if _, err := io.ReadFull(c, p); err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got = append(got, p...)
	}
}
