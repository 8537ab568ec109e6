// Command wire-privacy makes the connections that run.py captures: one, as the flags say, and prints as a line of JSON
// from which port it came and what an observer must not learn from it. See run.py, which starts it.
//
// The kinds attested and ordinary are connections of the real client. keylog is a client over crypto/tls alone, which
// writes the keys of its connection to a file. The other kinds leak, each in one way.
package main

import (
	"context"
	"crypto/tls"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/client"
)

func main() {
	var p probe
	file := flag.String("bundle", "", "bundle of the broker")
	flag.StringVar(&p.kind, "kind", "attested", "attested, ordinary, keylog, leaky-name, leaky-protocol, leaky-padding or leaky-certificate")
	flag.StringVar(&p.keylog, "keylog", "", "file for the keys of the connection, with -kind keylog")
	flag.StringVar(&p.listen, "listen", "", "where a leaky server of its own listens, with -kind leaky-padding and leaky-certificate")
	flag.StringVar(&p.state, "state", "", "folder of the development broker, whose keys these servers take")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := p.open(*file)
	if err == nil {
		err = p.run(ctx)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(p.report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wire-privacy:", err)
		os.Exit(1)
	}
}

// probe is one connection.
type probe struct {
	kind, keylog, listen, state string
	bundle                      *client.Bundle
	nonce                       [32]byte
	report                      report
}

// report is what run.py reads. All secrets are in hexadecimal.
type report struct {
	Kind       string            `json:"kind"`
	Port       int               `json:"port"` // of the client
	Service    string            `json:"service"`
	PublicName string            `json:"public_name"`
	Secrets    map[string]string `json:"secrets"`
}

func (p *probe) open(file string) (err error) {
	if p.bundle, err = client.ReadBundle(file); err != nil {
		return err
	}
	p.report = report{Kind: p.kind, Service: p.bundle.Service, Secrets: map[string]string{}}
	p.report.PublicName, err = atls.CheckECHConfigList(p.bundle.ECHConfigList)
	p.secret("service name", []byte(p.bundle.Service))
	for _, identity := range p.bundle.Policy.Identities() {
		for _, m := range identity.Modules {
			p.secret("module digest", m[:])
		}
		for _, c := range identity.Configs {
			p.secret("configuration digest", c[:])
		}
	}
	return err
}

func (p *probe) secret(name string, value []byte) { p.report.Secrets[name] = hex.EncodeToString(value) }

func (p *probe) run(ctx context.Context) error {
	switch p.kind {
	case "attested", "ordinary":
		return p.real(ctx)
	case "keylog":
		return p.withKeys(ctx)
	case "leaky-name":
		return p.leakyName(ctx)
	case "leaky-protocol":
		return p.leakyProtocol(ctx)
	case "leaky-padding", "leaky-certificate":
		return p.leakyServer(ctx)
	}
	return fmt.Errorf("-kind %q is not known", p.kind)
}

// dial opens the TCP connection and notes its port.
func (p *probe) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		p.report.Port = conn.LocalAddr().(*net.TCPAddr).Port
	}
	return conn, err
}

// real is a connection of the library.
func (p *probe) real(ctx context.Context) error {
	spy := &spy{}
	random := &recorder{}
	conn, _, err := client.Dial(ctx, p.bundle, client.Options{
		Dial: p.dial, Rand: random, Unattested: p.kind == "ordinary", Registry: spy.registry(),
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	p.noteNonce([32]byte(random.got[:32]))
	if p.kind == "attested" {
		p.secret("report data", spy.want[:])
		p.secret("quote", spy.quote[:64])
	}
	return exchange(conn)
}

func (p *probe) noteNonce(n [32]byte) {
	p.nonce = n
	p.secret("nonce", n[:])
	p.secret("label of the nonce", []byte(label(n)))
}

func label(n [32]byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(n[:]))
}

// Packets of MQTT 3.1.1: all connections say the same.
var (
	connect    = []byte("\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04wire")
	connack    = []byte{0x20, 2, 0, 0}
	disconnect = []byte{0xe0, 0}
)

// exchange speaks MQTT, and waits for the other side to close, so that each connection ends in the same way.
func exchange(conn io.ReadWriter) error {
	if _, err := conn.Write(connect); err != nil {
		return err
	}
	got := make([]byte, len(connack))
	if _, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("no CONNACK: %w", err)
	}
	if _, err := conn.Write(disconnect); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, conn)
	return err
}

// withKeys is a client over crypto/tls alone: it does what the library does, and gives its keys away.
func (p *probe) withKeys(ctx context.Context) error {
	keys, err := os.Create(p.keylog)
	if err != nil {
		return err
	}
	defer keys.Close()
	p.noteNonce([32]byte{1, 2, 3})
	tickets := make(cache, 1)
	config := p.config()
	config.ServerName, config.KeyLogWriter, config.ClientSessionCache = label(p.nonce)+".n1."+p.bundle.Service, keys, tickets
	conn, err := p.dialTLS(ctx, p.bundle.Addresses[0], config)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, 4)); err != nil { // the frame: no evidence of this client
		return err
	}
	if err := exchange(conn); err != nil {
		return err
	}
	select {
	case ticket := <-tickets:
		size := int(ticket[0])<<24 | int(ticket[1])<<16 | int(ticket[2])<<8 | int(ticket[3])
		p.secret("evidence", ticket[4:4+size])
		return nil
	default:
		return errors.New("no ticket came")
	}
}

// config is what a client with the bundle uses.
func (p *probe) config() *tls.Config {
	return &tls.Config{
		ServerName: p.bundle.Service, RootCAs: owner.Pool(p.bundle.OwnerCA), NextProtos: []string{"mqtt"}, MinVersion: tls.VersionTLS13,
		EncryptedClientHelloConfigList: p.bundle.ECHConfigList, ClientSessionCache: make(cache, 1),
	}
}

func (p *probe) dialTLS(ctx context.Context, address string, config *tls.Config) (*tls.Conn, error) {
	raw, err := p.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// cache keeps a ticket and never gives one.
type cache chan []byte

func (cache) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (c cache) Put(_ string, state *tls.ClientSessionState) {
	if ticket, _, err := state.ResumptionState(); err == nil && len(c) == 0 {
		c <- ticket
	}
}
