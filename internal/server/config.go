package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/auth"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/guard"
	"github.com/vouchmq/vouchmq/internal/server/settings"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// Kind tells what a listener speaks below MQTT.
type Kind string

// The kinds of listener.
const (
	TCP      Kind = "tcp"      // nothing: for the loopback interface, or behind something that encrypts
	TLS      Kind = "tls"      // TLS; it never attests
	Attested Kind = "attested" // attested TLS, and ordinary TLS for clients that do not ask for more
	WS       Kind = "ws"       // WebSocket
	WSS      Kind = "wss"      // WebSocket in TLS
)

// Engine tells how the core runs.
type Engine string

// The engines.
const (
	Wasm   Engine = "wasm"   // as the WebAssembly module whose digest is attested
	Native Engine = "native" // compiled into this program, for comparison: no module is claimed
)

// Listener is one address that the broker listens on.
type Listener struct {
	Name    string // what rules call it
	Kind    Kind
	Address string // host:port, port 0 is any free one; unix:PATH; or systemd:NAME
	// Mode is the permissions of a Unix socket; 0 is nobody's but root's.
	Mode fs.FileMode
	// Insecure allows a plain listener that other machines can reach.
	Insecure bool
	// RequireEvidence refuses clients of an Attested listener that do not attest.
	RequireEvidence bool
	Reveal          atls.Reveal      // who may see the evidence of an Attested listener; "" is atls.RevealFirst
	P1WithoutECH    bool             // attest to carrier p1 in clear, too: see atls.ServerConfig
	Certificate     *tls.Certificate // in place of that of the Config; nil is that
	MinTLS          uint16           // in place of that of the Config; 0 is that
	Clients         *ClientCA        // certificates of clients; nil: none are asked for
	// Settings is what the file says of it; what stands above counts more. The zero value will do.
	Settings settings.Listener
}

// plain reports whether what goes over the listener can be read on the way.
func (l *Listener) plain() bool { return l.Kind == TCP || l.Kind == WS }

// authenticated reports whether evidence is for clients with a certificate only.
func (l *Listener) authenticated() bool { return l.Reveal == atls.RevealAuthenticated }

func (l *Listener) certificate(c *Config) tls.Certificate {
	if l.Certificate != nil {
		return *l.Certificate
	}
	return c.Certificate
}

// Limits bound what clients may use.
type Limits struct {
	Core      abi.Limits // a field of 0 is its default, see DefaultLimits, unless Complete says otherwise
	Transport transport.Limits
	Complete  bool // nothing of Core is to be filled in: 0 is 0
}

// Config is all that a broker needs.
type Config struct {
	Service   string // name of the service, which certificate and clients know it by
	Listeners []Listener
	Policy    *policy.Policy
	Limits    Limits
	Options   abi.Options

	Engine      Engine // "" is Wasm
	Module      []byte // for Wasm
	MemoryLimit uint64 // bytes of memory of the module; 0 is 1 GiB

	// For listeners of kind TLS and Attested.
	OwnerKey    attest.Digest // of the owner CA's public key
	Certificate tls.Certificate
	ECHKeys     []*atls.ECHKey
	Attester    attest.Attester
	Registry    *attest.Registry // verifiers of clients' evidence
	Runtime     attest.Digest    // of this program
	Instance    string           // name of this instance, for the claims
	MinTLS      uint16           // of ordinary TLS; 0 is TLS 1.3

	ShutdownTimeout time.Duration // time to say farewell; 0 is 10 s
	Log             *slog.Logger  // nil is nowhere
	// LevelVar is the level of Log, which a reload sets to Level; nil: the level stays.
	LevelVar *slog.LevelVar
	Level    slog.Level
	Sockets  *Sockets         // that were open before; may be nil
	Clock    func() time.Time // for certificates; nil is time.Now
	Sight    Sight
	// Authentication says who is let in. nil: clients are who their certificate or their evidence says, or nobody, and
	// the policy decides.
	Authentication *auth.Config
	Guard          guard.Config // what becomes of those who guess passwords
	Attestation    Attestation
	Collateral     Collateral

	batcher *attest.Batcher // of Attester, for all listeners; nil if there is no Attester
}

// Defaults of a broker with settings.
const (
	DefaultReattest = 15 * time.Minute
	DefaultGrace    = time.Minute
)

// Attestation says when connections that attest must do so again. Where Reattest is 0 they need not, and keep the evidence
// of the configuration that they were opened under.
type Attestation struct {
	Reattest time.Duration // between two rounds, give or take a fifth
	Grace    time.Duration // beyond that, and after a change of what the broker's evidence claims
}

// DefaultLimits returns limits for a broker that strangers can reach.
func DefaultLimits() abi.Limits {
	return abi.Limits{
		MaxPacketSize:     1 << 20,
		MaxInflight:       4096,
		ReceiveMaximum:    1024,
		TopicAliasMaximum: 64,
		MaxAliasesOut:     16,
		MaxQueued:         32_768,
		MaxQueuedBytes:    16 << 20,
		MaxRetained:       100_000,
		MaxRetainedBytes:  128 << 20,
		MaxSessions:       100_000,
		MaxSubscriptions:  1_000,
		MaxTopicLevels:    64,
		MaxKeepAlive:      0,
		MaxSessionExpiry:  7 * 24 * 3600,
		MaxMemory:         256 << 20,
		MaxModuleMemory:   352 << 20, // of the gigabyte that a module has: its collector needs room beside
		ConnectTimeout:    10_000,
		StallTimeout:      1_000,
		StepWork:          8_192,
	}
}

func (c Config) withDefaults() Config {
	if c.Engine == "" {
		c.Engine = Wasm
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = 10 * time.Second
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if !c.Limits.Complete {
		c.Limits.Core = mergeLimits(c.Limits.Core, DefaultLimits())
	}
	if c.Engine == Wasm && c.MemoryLimit != 0 {
		c.Limits.Core.MaxModuleMemory = boundTables(c.Limits.Core.MaxModuleMemory, c.MemoryLimit)
	}
	c.Limits.Transport.MaxPacketSize = int(c.Limits.Core.MaxPacketSize)
	c.Listeners = slices.Clone(c.Listeners)
	return c
}

// shareQuotes has all listeners share quotes, with those of the configuration before, which is nil at the start.
func (c *Config) shareQuotes(before *attest.Batcher) {
	switch {
	case c.Attester == nil:
		c.batcher = nil
	case before == nil:
		c.batcher = attest.NewBatcher(c.Attester)
	default:
		c.batcher = before.With(c.Attester)
	}
}

// tablesPart is the part of a module's memory that the core's tables may take. The rest is for its collector, which needs
// as much again while it copes with what was given up, and for batches and effects.
const tablesPart = 3

// boundTables bounds what the core's tables may take so that the module's memory cannot run out; 0 is no bound so far.
func boundTables(most uint32, memory uint64) uint32 {
	room := uint32(min(memory/tablesPart, math.MaxUint32))
	if most == 0 {
		return room
	}
	return min(most, room)
}

// check says what is wrong with a configuration before anything is started.
func (c *Config) check() error {
	if len(c.Listeners) == 0 {
		return errors.New("no listener is configured: the broker could not be reached")
	}
	if c.Policy == nil {
		return errors.New("no policy is configured: nobody could do anything")
	}
	names := map[string]bool{}
	for _, l := range c.Listeners {
		if err := l.check(c); err != nil {
			return fmt.Errorf("listener %q: %w", l.Name, err)
		}
		if names[l.Name] {
			return fmt.Errorf("listener %q is configured twice", l.Name)
		}
		names[l.Name] = true
	}
	if err := c.Sight.check(); err != nil {
		return err
	}
	return c.checkEngine()
}

func (c *Config) checkEngine() error {
	switch c.Engine {
	case Native:
		return nil
	case Wasm:
		if len(c.Module) == 0 {
			return errors.New("engine wasm needs the module: build it with `make module`, or use the engine native")
		}
		return nil
	}
	return fmt.Errorf("engine %q is neither %s nor %s", c.Engine, Wasm, Native)
}

func (l *Listener) check(c *Config) error {
	if l.Name == "" {
		return errors.New("it has no name, which rules could call it by")
	}
	if err := l.checkAddress(); err != nil {
		return err
	}
	if (l.RequireEvidence || l.authenticated() || l.P1WithoutECH) && l.Kind != Attested {
		return fmt.Errorf("only a listener of kind %s can require evidence, reveal it to some, or attest without ECH", Attested)
	}
	if l.authenticated() && l.Clients == nil {
		return fmt.Errorf("to reveal evidence to clients with a certificate only, it needs the CA of those")
	}
	switch l.Kind {
	case TCP, WS:
		return nil
	case TLS, WSS, Attested:
		return l.checkTLS(c)
	}
	return fmt.Errorf("kind %q is none of %s, %s, %s, %s, %s", l.Kind, TCP, TLS, Attested, WS, WSS)
}

func (l *Listener) checkAddress() error {
	network, address := (&settings.Listener{Address: l.Address}).Network()
	if network == "tcp" {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("address %q is not host:port: %w", address, err)
		}
	}
	if l.plain() && !l.Insecure && settings.Beyond(network, address) {
		return fmt.Errorf("address %s can be reached from other machines, and what goes over a listener of kind %s can be read on the way: "+
			"use kind attested or tls, bind it to 127.0.0.1, or allow it with \"insecure: true\"", l.Address, l.Kind)
	}
	return nil
}

func (l *Listener) checkTLS(c *Config) error {
	if len(l.certificate(c).Certificate) == 0 {
		return errors.New("it needs a certificate")
	}
	if l.Kind == Attested && c.Attester == nil {
		return errors.New("it needs a TEE to attest with")
	}
	return nil
}

// coreConfig is what the core is configured with.
func (c *Config) coreConfig() []byte {
	config := abi.Config{Limits: c.Limits.Core, Options: c.Options}
	for _, r := range c.Policy.Rules() {
		rule := abi.Rule{Publish: r.Publish, Subscribe: r.Subscribe, Provenance: r.Provenance}
		for _, w := range r.Who {
			rule.Who = append(rule.Who, abi.Condition{
				Identity: w.Identity, User: w.User, Anonymous: w.Anonymous, Listener: w.Listener,
			})
		}
		config.Rules = append(config.Rules, rule)
	}
	return abi.AppendConfig(nil, &config)
}

// canonicalVersion numbers the form of Canonical.
const canonicalVersion = 1

type canonicalConfig struct {
	Version   int                 `cbor:"version"`
	Service   string              `cbor:"service"`
	Owner     []byte              `cbor:"owner"`
	Engine    string              `cbor:"engine"`
	Listeners []canonicalListener `cbor:"listeners"`
	Policy    []byte              `cbor:"policy"`
}

type canonicalListener struct {
	Name            string `cbor:"name"`
	Kind            string `cbor:"kind"`
	RequireEvidence bool   `cbor:"require_evidence"`
	// Only there if they are not as by default.
	Authenticated bool `cbor:"reveal_authenticated,omitempty"`
	P1WithoutECH  bool `cbor:"p1_without_ech,omitempty"`
}

// Canonical returns what of the configuration is attested, in deterministic CBOR: service, owner's key,
// engine, listeners by name, and the digest of the policy. Clients pin its SHA-384, see ConfigDigest.
func (c *Config) Canonical() ([]byte, error) {
	policyDigest := c.Policy.Digest()
	canonical := canonicalConfig{
		Version: canonicalVersion, Service: c.Service, Owner: c.OwnerKey[:], Engine: string(c.withDefaults().Engine),
		Listeners: []canonicalListener{}, Policy: policyDigest[:],
	}
	for _, l := range c.Listeners {
		canonical.Listeners = append(canonical.Listeners, canonicalListener{l.Name, string(l.Kind), l.RequireEvidence, l.authenticated(), l.P1WithoutECH})
	}
	slices.SortFunc(canonical.Listeners, func(a, b canonicalListener) int { return strings.Compare(a.Name, b.Name) })
	b, err := dcbor.Encode(canonical)
	if err != nil {
		return nil, fmt.Errorf("encode the canonical configuration: %w", err)
	}
	return b, nil
}

// nativeModule is what the claims name in place of a module when the core runs natively. It is the digest of
// no module, so a policy accepts it only if it means to.
const nativeModule = "vouchmq: the broker's core is compiled into the runtime, there is no module"

// Identity returns what evidence claims: module, configuration, runtime and instance.
func (c *Config) Identity() (attest.Identity, error) {
	canonical, err := c.Canonical()
	if err != nil {
		return attest.Identity{}, err
	}
	module := c.Module
	if c.Engine == Native {
		module = []byte(nativeModule)
	}
	return attest.Identity{
		Module: attest.Sum(module), Config: attest.Sum(canonical), Runtime: c.Runtime, Instance: c.Instance,
	}, nil
}
