package transport

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

var loopback = &Proxy{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// proxyHeaderOf is a header of version 2.
func proxyHeaderOf(t testing.TB, command proxyproto.ProtocolVersionAndCommand, source string, tlvs ...proxyproto.TLV) []byte {
	t.Helper()
	at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source))
	h := proxyproto.Header{
		Version: 2, Command: command, TransportProtocol: proxyproto.TCPv4, SourceAddr: at,
		DestinationAddr: &net.TCPAddr{IP: at.IP, Port: 1883},
	}
	if at.IP.To4() == nil {
		h.TransportProtocol = proxyproto.TCPv6
	}
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// certificateTLV is what a proxy says of a client's certificate.
func certificateTLV(t testing.TB, name string, verify uint32) proxyproto.TLV {
	t.Helper()
	tls := tlvparse.PP2SSL{
		Client: tlvparse.PP2_BITFIELD_CLIENT_SSL | tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN, Verify: verify,
		TLV: []proxyproto.TLV{
			{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte("TLSv1.3")},
			{Type: proxyproto.PP2_SUBTYPE_SSL_CN, Value: []byte(name)},
		},
	}
	tlv, err := tls.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return tlv
}

// onlyPeer is the peer that the core has heard of.
func (b *bed) onlyPeer(t testing.TB) abi.Peer {
	t.Helper()
	b.hubs.mu.Lock()
	defer b.hubs.mu.Unlock()
	for _, p := range b.hubs.peers {
		return p
	}
	t.Fatal("the core heard of nobody")
	return abi.Peer{}
}

func TestProxyHeaders(t *testing.T) {
	v2 := func(source string, tlvs ...proxyproto.TLV) string {
		return string(proxyHeaderOf(t, proxyproto.PROXY, source, tlvs...))
	}
	for _, test := range []struct {
		name, header, address, user string
		commonName                  bool
	}{
		{name: "v1", header: "PROXY TCP4 192.0.2.7 192.0.2.1 1234 1883\r\n", address: "192.0.2.7:1234"},
		{name: "v1 of IPv6", header: "PROXY TCP6 2001:db8::7 2001:db8::1 1234 1883\r\n", address: "[2001:db8::7]:1234"},
		{name: "v1 unknown", header: "PROXY UNKNOWN\r\n", address: "127.0.0.1:"},
		{name: "v2", header: v2("192.0.2.7:1234"), address: "192.0.2.7:1234"},
		{name: "v2 of IPv6", header: v2("[2001:db8::7]:1234"), address: "[2001:db8::7]:1234"},
		{name: "local", header: string(proxyHeaderOf(t, proxyproto.LOCAL, "192.0.2.7:1")), address: "127.0.0.1:"},
		{name: "name ignored", header: v2("192.0.2.7:1234", certificateTLV(t, "alice", 0)), address: "192.0.2.7:1234"},
		{name: "name", header: v2("192.0.2.7:1234", certificateTLV(t, "alice", 0)), address: "192.0.2.7:1234", user: "alice", commonName: true},
		{name: "name not verified", header: v2("192.0.2.7:1234", certificateTLV(t, "alice", 1)), address: "192.0.2.7:1234", commonName: true},
		{name: "no name", header: v2("192.0.2.7:1234"), address: "192.0.2.7:1234", commonName: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBed(t, Limits{}, nil)
			b.listen(t, ListenConfig{Proxy: &Proxy{Trusted: loopback.Trusted, CommonName: test.commonName}})
			c := b.dial(t)
			write(t, c, []byte(test.header+"\xC0\x00"))
			expect(t, c, 2)
			p := b.onlyPeer(t)
			if !strings.HasPrefix(p.Address, test.address) || p.User != test.user {
				t.Fatalf("the core was told of %+v", p)
			}
			if list := b.Connections(); len(list) != 1 || !strings.HasPrefix(list[0].Address.String(), test.address) {
				t.Fatalf("connections %+v", list)
			}
			if !strings.Contains(b.log.String(), `address=`+test.address) && !strings.Contains(b.log.String(), `address="`+test.address) {
				t.Fatal("the log does not name the address")
			}
		})
	}
}

func TestProxyHeadersThatAreWrong(t *testing.T) {
	b := newBed(t, Limits{HandshakeTimeout: 200 * time.Millisecond}, nil)
	b.listen(t, ListenConfig{Proxy: loopback})
	v2 := proxyHeaderOf(t, proxyproto.PROXY, "192.0.2.7:1234")
	udp := append([]byte(nil), v2...)
	udp[13] = 0x12
	long := append([]byte(nil), v2...)
	long[14], long[15] = 0xFF, 0xFF
	for name, header := range map[string]string{
		"MQTT at once":  "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00",
		"v1 address":    "PROXY TCP4 192.0.2.777 192.0.2.1 1234 1883\r\n",
		"v1 no line":    "PROXY " + strings.Repeat("x", 200),
		"v1 cut":        "PROXY TCP4 192.0",
		"v2 cut":        string(v2[:20]),
		"v2 signature":  string(v2[:11]) + "xxxxxxxxxxxxx",
		"v2 of UDP":     string(udp),
		"v2 very large": string(long),
	} {
		t.Run(name, func(t *testing.T) {
			before := b.Stats().FailedHandshakes
			c := b.dial(t)
			write(t, c, []byte(header))
			expectEnd(t, c)
			testkit.Await(t, "the failure", func() bool { return b.Stats().FailedHandshakes == before+1 && b.Stats().Connections == 0 })
		})
	}
	if b.hubs.count(abi.EventOpen) != 0 {
		t.Fatal("the core heard of a connection")
	}
	if n := strings.Count(b.log.String(), "handshake failed"); n != 8 {
		t.Fatalf("%d log lines", n)
	}
}

// A header that comes byte by byte has the time of a handshake.
func TestSlowProxyHeader(t *testing.T) {
	b := newBed(t, Limits{HandshakeTimeout: 100 * time.Millisecond}, nil)
	b.listen(t, ListenConfig{Proxy: loopback})
	c := b.dial(t)
	header := proxyHeaderOf(t, proxyproto.PROXY, "192.0.2.7:1234", proxyproto.TLV{Type: proxyproto.PP2_TYPE_NOOP, Value: make([]byte, 4000)})
	for i := range header {
		if _, err := c.Write(header[i : i+1]); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	testkit.Await(t, "the failure", func() bool { return b.Stats().FailedHandshakes == 1 && b.Stats().Connections == 0 })
}

func TestProxyThatIsNotTrusted(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{Proxy: &Proxy{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}})
	for range 5 {
		expectEnd(t, b.dial(t))
	}
	if s := b.Stats(); s.RefusedProxy != 5 || b.hubs.count(abi.EventOpen) != 0 {
		t.Fatalf("statistics %+v", s)
	}
	if n := strings.Count(b.log.String(), "no trusted proxy"); n != 3 { // the 1st, 2nd and 4th
		t.Fatalf("%d log lines", n)
	}
}

// A proxy that looks whether the broker is there is not worth a line in the log.
func TestProxyHealthChecksAreQuiet(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{Proxy: loopback, Handshake: withTLS(t)})
	for _, header := range []string{"", string(proxyHeaderOf(t, proxyproto.LOCAL, "192.0.2.7:1"))} {
		c := b.dial(t)
		if header != "" {
			write(t, c, []byte(header))
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Await(t, "their ends", func() bool { return b.Stats().Accepted == 2 && b.Stats().Connections == 0 })
	if s := b.Stats(); s.FailedHandshakes != 0 || strings.Contains(b.log.String(), "level=WARN") || strings.Contains(b.log.String(), "level=INFO") {
		t.Fatalf("statistics %+v, log %s", s, b.log)
	}
}

// TLS and its first bytes, in the same segment as the header.
func TestProxyBeforeTLS(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{Proxy: loopback, Handshake: withTLS(t)})
	c := tls.Client(&withHeader{Conn: b.dial(t), header: proxyHeaderOf(t, proxyproto.PROXY, "192.0.2.7:1234")}, &tls.Config{InsecureSkipVerify: true})
	write(t, c, []byte{0xC0, 0})
	expect(t, c, 2)
	if p := b.onlyPeer(t); p.Address != "192.0.2.7:1234" || p.User != "tls" {
		t.Fatalf("the core was told of %+v", p)
	}
	write(t, c, []byte{0xE0, 0})
	if got := expectEnd(t, c); len(got) != 2<<20 {
		t.Fatalf("%d bytes", len(got))
	}
}

// withHeader sends a header before, and together with, the first bytes.
type withHeader struct {
	net.Conn
	header []byte
}

func (w *withHeader) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(append(w.header, b...))
	n -= len(w.header)
	w.header = nil
	return n, err
}

// Behind a proxy, locks and limits are for the addresses that it tells.
func TestProxyAndAdmission(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{
		Proxy: loopback, Rates: Rates{MaxPerAddress: 1},
		Admit: func(a netip.Addr) bool { return a != netip.MustParseAddr("192.0.2.66") },
	})
	connect := func(source string) net.Conn {
		c := b.dial(t)
		write(t, c, append(proxyHeaderOf(t, proxyproto.PROXY, source), 0xC0, 0))
		return c
	}
	first := connect("192.0.2.7:1")
	expect(t, first, 2)
	expect(t, connect("192.0.2.8:1"), 2)
	expectEnd(t, connect("192.0.2.7:2"))
	expectEnd(t, connect("192.0.2.66:1"))
	if s := b.Stats(); s.RefusedAddress != 1 || s.RefusedAdmit != 1 || s.FailedHandshakes != 0 {
		t.Fatalf("statistics %+v", s)
	}
	_ = first.Close()
	testkit.Await(t, "the first to leave", func() bool { return b.Stats().Connections == 1 })
	expect(t, connect("192.0.2.7:3"), 2)
}

func TestProxyConfigThatIsWrong(t *testing.T) {
	tr := New(Config{})
	for _, config := range []Proxy{{}, {Trusted: []netip.Prefix{{}}}} {
		socket, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Listen(socket, ListenConfig{Name: "x", Proxy: &config}); err == nil {
			t.Errorf("%+v is accepted", config)
		}
		if _, err := socket.Accept(); err == nil {
			t.Error("the socket is still open")
		}
	}
}
