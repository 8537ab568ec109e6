package settings

import (
	"net/netip"
	"strings"
)

// The kinds of listener.
const (
	KindTCP      = "tcp"
	KindTLS      = "tls"
	KindAttested = "attested"
	KindWS       = "ws"
	KindWSS      = "wss"
)

// Who may see evidence.
const (
	RevealFirst         = "first"
	RevealAuthenticated = "authenticated"
)

// Listener is one address that clients connect to.
type Listener struct {
	Name    string `yaml:"name" required:"true" doc:"what rules, log and environment call it"`
	Kind    string `yaml:"kind" required:"true" enum:"tcp|tls|attested|ws|wss" doc:"what secures it: nothing (tcp, ws), TLS (tls, wss), attested TLS (attested); ws and wss are WebSocket"`
	Address string `yaml:"address" required:"true" doc:"host:port, unix:/path of a socket, systemd:NAME of a socket that systemd opened, or vsock:PORT for the host of this virtual machine or enclave"`
	Mode    string `yaml:"mode" doc:"permissions of a Unix socket, in octal digits"`
	// Insecure must be said for a plain listener that others than this machine can reach.
	Insecure bool `yaml:"insecure" doc:"a listener of kind tcp or ws may be reached from other machines, though all can be read on the way"`

	RequireEvidence bool `yaml:"require_evidence" doc:"refuse clients of an attested listener that do not attest"`

	// Reveal and P1WithoutECH are of attested listeners.
	Reveal       string `yaml:"reveal" enum:"first|authenticated" doc:"who may see the broker's evidence: whoever has the bundle, or who has shown one of client_certificates"`
	P1WithoutECH bool   `yaml:"p1_without_ech" doc:"attest also to clients of carrier p1 that cannot do Encrypted Client Hello, though all on the way then see the service, the nonce, and that evidence is asked for"`

	TLS                *TLS                `yaml:"tls" doc:"certificate of the operator's own"`
	ClientCertificates *ClientCertificates `yaml:"client_certificates" doc:"certificates of clients"`
	WebSocket          *WebSocket          `yaml:"websocket" doc:"for kind ws and wss"`
	ProxyProtocol      *ProxyProtocol      `yaml:"proxy_protocol" doc:"the PROXY protocol, versions 1 and 2"`

	MaxPerAddress int   `yaml:"max_per_address" min:"0" max:"16777215" doc:"connections of one IPv4 address, or of one /64 of IPv6; 0 is no bound but that of all"`
	Rates         Rates `yaml:"rates" doc:"what clients may do in a second"`
}

// SetDefaults fills in what a listener has that is not told otherwise.
func (l *Listener) SetDefaults() { l.Mode, l.Reveal = "0660", RevealFirst }

// Plain reports whether what goes over the listener can be read on the way.
func (l *Listener) Plain() bool { return l.Kind == KindTCP || l.Kind == KindWS }

// OverWebSocket reports whether MQTT is carried in WebSocket frames.
func (l *Listener) OverWebSocket() bool { return l.Kind == KindWS || l.Kind == KindWSS }

// Network splits an address into what opens it (tcp, unix, systemd or vsock) and the rest.
func (l *Listener) Network() (network, address string) {
	for _, network := range []string{"unix", "systemd", "vsock"} {
		if rest, ok := strings.CutPrefix(l.Address, network+":"); ok {
			return network, rest
		}
	}
	return "tcp", l.Address
}

// ClientCertificates says which certificates of clients are accepted.
type ClientCertificates struct {
	CA         string   `yaml:"ca" required:"true" doc:"file of CA certificates (PEM) that clients' certificates are issued by"`
	CRL        []string `yaml:"crl" doc:"files of revocation lists (PEM or DER); with one, every issuer of clients needs one"`
	CRLExpired string   `yaml:"crl_expired" enum:"refuse|allow" doc:"what becomes of clients when a revocation list is past its next update"`
	Required   bool     `yaml:"required" doc:"refuse clients without a certificate"`
	User       string   `yaml:"user" enum:"common_name|dns|email|uri" doc:"what of the certificate is the user name"`
}

// SetDefaults fills in what is not told otherwise.
func (c *ClientCertificates) SetDefaults() { c.CRLExpired, c.User = "refuse", "common_name" }

// WebSocket says which requests become connections.
type WebSocket struct {
	Path    string   `yaml:"path" doc:"path of the request"`
	Origins []string `yaml:"origins" doc:"origins of pages that may connect, such as https://example.org; none given is the listener's own host only"`
}

// SetDefaults fills in what is not told otherwise.
func (w *WebSocket) SetDefaults() { w.Path = "/mqtt" }

// ProxyProtocol says who may tell addresses of clients.
type ProxyProtocol struct {
	From []netip.Prefix `yaml:"from" required:"true" doc:"networks of the proxies; their connections must begin with a PROXY header, all others must not"`
}

// Rates bound what clients do in a second. 0 is no bound.
type Rates struct {
	Connect  int `yaml:"connect" min:"0" max:"1000000000" doc:"connections of one address; 0 is no bound"`
	Messages int `yaml:"messages" min:"0" max:"1000000000" doc:"messages of one client; 0 is no bound"`
	Bytes    int `yaml:"bytes" min:"0" max:"1000000000000" doc:"bytes of one client; 0 is no bound"`
}

// TLS is a certificate of the operator's own, in place of the state folder's.
type TLS struct {
	Certificate string `yaml:"certificate" doc:"file of the certificate and its intermediates (PEM)"`
	Key         string `yaml:"key" doc:"file of its key (PEM)"`
	MinVersion  string `yaml:"min_version" enum:"1.2|1.3" doc:"oldest TLS of ordinary clients; attested TLS is always 1.3; empty is 1.3"`
}

// Over returns t with what it lacks taken from base: certificate and key together, and the version.
func (t *TLS) Over(base TLS) TLS {
	if t == nil {
		return base
	}
	merged := *t
	if merged.Certificate == "" && merged.Key == "" {
		merged.Certificate, merged.Key = base.Certificate, base.Key
	}
	if merged.MinVersion == "" {
		merged.MinVersion = base.MinVersion
	}
	return merged
}
