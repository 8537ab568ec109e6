package transport

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// Proxy says that clients come through a proxy which tells their addresses: each connection begins with a header
// of the PROXY protocol, version 1 or 2 (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt). One without
// is refused.
type Proxy struct {
	// Trusted are the addresses of proxies; all others are refused. Without any, only a Unix socket works: there,
	// whoever may open the file is trusted.
	Trusted []netip.Prefix
	// CommonName takes the common name of the client certificate that the proxy has verified, if it tells one, for
	// the user name. Whoever can reach the listener from a trusted address can then be anybody.
	CommonName bool
}

func (p *Proxy) check(address net.Addr) error {
	if _, unix := address.(*net.UnixAddr); len(p.Trusted) == 0 && !unix {
		return errors.New("the PROXY protocol is asked for but no proxy is trusted: nobody could connect")
	}
	for _, prefix := range p.Trusted {
		if !prefix.IsValid() {
			return errors.New("a trusted proxy is not an address prefix such as 192.0.2.0/24")
		}
	}
	return nil
}

// trusts says whether a proxy may have this address. That of a Unix socket is not valid.
func (p *Proxy) trusts(address netip.Addr) bool {
	if !address.IsValid() {
		return true
	}
	for _, prefix := range p.Trusted {
		if prefix.Contains(address.WithZone("")) {
			return true
		}
	}
	return false
}

// Why a connection through a proxy is not let in.
var (
	errHealthCheck = quiet{errors.New("the proxy looked whether the broker is there")}
	errNotAdmitted = quiet{errors.New("its address may not connect")} // which has been logged
)

// proxyHeader is what a header says.
type proxyHeader struct {
	address netip.AddrPort
	user    string
	local   bool // the proxy speaks for itself, most often to see whether the broker is there
}

// quieten makes an error one that nobody needs to hear of, if it came of a proxy's health check.
func (h *proxyHeader) quieten(err error) error {
	if h.local {
		return quiet{err}
	}
	return err
}

// meetProxy reads the header, gives the connection the address that stands there, and returns the stream behind it.
func (e *entrance) meetProxy(c *conn) (net.Conn, proxyHeader, error) {
	reader := bufio.NewReaderSize(c.stream, 512)
	header, err := readProxyHeader(reader, e.config.Proxy)
	if err != nil {
		return nil, header, err
	}
	if !header.local {
		c.log = e.log.With("conn", uint32(c.id), "address", addressText(header.address), "proxy", addressText(c.address))
		c.setAddress(header.address)
	}
	e.transport.handshakes.count(c.handshake, c.address.Addr())
	if !e.greet(c) {
		return nil, header, errNotAdmitted
	}
	return unread(c.stream, reader), header, nil
}

// readProxyHeader reads a header.
func readProxyHeader(reader *bufio.Reader, config *Proxy) (proxyHeader, error) {
	if _, err := reader.Peek(1); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return proxyHeader{}, errors.New("no PROXY header came in time")
		}
		return proxyHeader{}, errHealthCheck // it only connected
	}
	h, err := proxyproto.Read(reader)
	if err != nil {
		return proxyHeader{}, fmt.Errorf("PROXY header: %w", err)
	}
	if h.Command.IsLocal() || h.Version == 1 && h.TransportProtocol == proxyproto.UNSPEC {
		return proxyHeader{local: true}, nil
	}
	if !h.TransportProtocol.IsStream() {
		return proxyHeader{}, errors.New("PROXY header: it is of no stream")
	}
	out := proxyHeader{address: addressOf(h.SourceAddr)}
	if config.CommonName {
		out.user, err = commonName(h)
	}
	return out, err
}

// commonName returns that of the client certificate that the proxy has verified, "" if there is none.
func commonName(h *proxyproto.Header) (string, error) {
	tlvs, err := h.TLVs()
	if err != nil {
		return "", fmt.Errorf("PROXY header: %w", err)
	}
	tls, ok := tlvparse.FindSSL(tlvs)
	if !ok || !tls.Verified() || !tls.ClientCertConn() && !tls.ClientCertSess() {
		return "", nil
	}
	name, _ := tls.ClientCN()
	return name, nil
}

// unread returns a stream that begins with what reader has read ahead of socket.
func unread(socket net.Conn, reader *bufio.Reader) net.Conn {
	ahead, _ := reader.Peek(reader.Buffered()) // cannot fail: it is there
	if len(ahead) == 0 {
		return socket
	}
	return &prefixed{Conn: socket, ahead: append([]byte(nil), ahead...)}
}

// prefixed is a connection whose first bytes have been read already.
type prefixed struct {
	net.Conn
	ahead []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.ahead) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.ahead)
	if p.ahead = p.ahead[n:]; len(p.ahead) == 0 {
		p.ahead = nil
	}
	return n, nil
}

// CloseWrite closes the write side if the connection can.
func (p *prefixed) CloseWrite() error {
	if w, ok := p.Conn.(closeWriter); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
