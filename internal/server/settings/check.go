package settings

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// check looks for what makes no sense though each value is good for itself.
func (s *Settings) check() {
	if s.Service != "" && s.PublicName == s.Service {
		s.wrong("public_name", "it is the service: observers would see which service clients ask for")
	}
	if s.Sim.QuoteTime != 0 && s.TEE != "sim" {
		s.wrong("sim.quote_time", "only the simulated TEE takes as long as it is told: say \"tee: sim\", or remove this")
	}
	s.checkPair("tls", &s.TLS)
	names := map[string]int{}
	for i := range s.Listeners {
		path := fmt.Sprintf("listeners[%d]", i)
		l := &s.Listeners[i]
		if first, twice := names[l.Name]; twice && l.Name != "" {
			s.wrong(join(path, "name"), "listener %q is configured twice: it is listeners[%d], too", l.Name, first)
		}
		names[l.Name] = i
		s.checkListener(path, l)
	}
	s.checkURL("attestation.collateral.pcs", s.Attestation.Collateral.PCS)
	s.checkURL("attestation.collateral.root_crl", s.Attestation.Collateral.RootCRL)
	if s.Metrics.Address != "" {
		s.checkHostPort("metrics.address", s.Metrics.Address)
	}
}

// checkURL looks at the address of a service, which may be empty. What is fetched is signed, so http will do.
func (s *Settings) checkURL(path, address string) {
	if u, err := url.Parse(address); address != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		s.wrong(path, "%q is not an address such as https://pccs.example:8081", short(address))
	}
}

func (s *Settings) wrong(path, format string, args ...any) {
	s.add(s.Problem(path, nil, format, args...))
}

var listenerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func (s *Settings) checkListener(path string, l *Listener) {
	if l.Name != "" && !listenerName.MatchString(l.Name) {
		s.wrong(join(path, "name"), "%q is not a name: use up to 64 letters, digits, dots, dashes and underscores", short(l.Name))
	}
	if l.Address != "" {
		s.checkAddress(path, l)
	}
	s.checkEvidence(path, l)
	if l.WebSocket != nil && !l.OverWebSocket() {
		s.wrong(join(path, "websocket"), "it is for listeners of kind %s and %s, and this is of kind %s", KindWS, KindWSS, l.Kind)
	}
	if l.WebSocket != nil && !strings.HasPrefix(l.WebSocket.Path, "/") {
		s.wrong(join(path, "websocket.path"), "%q does not begin with /", short(l.WebSocket.Path))
	}
	if l.Plain() {
		s.checkPlain(path, l)
	}
	s.checkPair(join(path, "tls"), l.TLS)
	if l.ProxyProtocol != nil && len(l.ProxyProtocol.From) == 0 {
		s.wrong(join(path, "proxy_protocol.from"), "it names no network, so nobody could connect")
	}
}

// checkEvidence looks at what only attested listeners can have.
func (s *Settings) checkEvidence(path string, l *Listener) {
	authenticated := l.Reveal == RevealAuthenticated
	if l.Kind == KindAttested {
		if authenticated && l.ClientCertificates == nil {
			s.wrong(join(path, "reveal"), "%s needs client_certificates: the CA of those who may see evidence", l.Reveal)
		}
		return
	}
	if l.RequireEvidence {
		s.wrong(join(path, "require_evidence"), "only a listener of kind %s can require evidence", KindAttested)
	}
	if authenticated {
		s.wrong(join(path, "reveal"), "only a listener of kind %s has evidence to reveal", KindAttested)
	}
	if l.P1WithoutECH {
		s.wrong(join(path, "p1_without_ech"), "only a listener of kind %s attests", KindAttested)
	}
}

// checkPlain refuses what a listener without TLS cannot have.
func (s *Settings) checkPlain(path string, l *Listener) {
	if l.TLS != nil {
		s.wrong(join(path, "tls"), "a listener of kind %s has no TLS", l.Kind)
	}
	if l.ClientCertificates != nil {
		s.wrong(join(path, "client_certificates"), "a listener of kind %s has no TLS", l.Kind)
	}
	if network, address := l.Network(); !l.Insecure && Beyond(network, address) {
		s.wrong(join(path, "address"), "%s can be reached from other machines, and what goes over it can be read on the way: "+
			"use kind attested or tls, bind it to 127.0.0.1, or say \"insecure: true\"", l.Address)
	}
}

// Beyond reports whether others than this machine can reach an address. Of what systemd opened only opening it tells.
func Beyond(network, address string) bool {
	return network == "vsock" || network == "tcp" && !Loopback(address)
}

// Loopback reports whether host:port is of this machine only.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // for checkAddress to say
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (s *Settings) checkAddress(path string, l *Listener) {
	switch network, address := l.Network(); network {
	case "tcp":
		s.checkHostPort(join(path, "address"), address)
	case "unix":
		if !filepath.IsAbs(address) {
			s.wrong(join(path, "address"), "%q is not an absolute path", short(address))
		}
		if _, err := l.Permissions(); err != nil {
			s.wrong(join(path, "mode"), "%s", err)
		}
	case "vsock":
		if n, err := strconv.ParseUint(address, 10, 32); err != nil || n == 0 || n == 1<<32-1 {
			s.wrong(join(path, "address"), "port %q is not a number from 1 to 4294967294: vsock:PORT", short(address))
		}
	case "systemd":
		if address == "" {
			s.wrong(join(path, "address"), "the name of the socket is missing: systemd:NAME, as in FileDescriptorName=NAME")
		}
	}
}

// Permissions returns the permissions of a Unix socket.
func (l *Listener) Permissions() (uint32, error) {
	n, err := strconv.ParseUint(l.Mode, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("%q is not a mode of three octal digits, such as 0660", short(l.Mode))
	}
	return uint32(n), nil
}

func (s *Settings) checkHostPort(path, address string) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		s.wrong(path, "%q is not host:port", short(address))
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		s.wrong(path, "port %q is not a number from 0 to 65535; 0 is any free one", short(port))
	}
}

func (s *Settings) checkPair(path string, t *TLS) {
	if t != nil && (t.Certificate == "") != (t.Key == "") {
		s.wrong(path, "certificate and key belong together: give both or neither")
	}
}
