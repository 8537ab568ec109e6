package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/client"
)

// What a development broker is like, unless it is told otherwise.
const (
	DevelopmentDir      = "vouchmq-dev"
	DevelopmentService  = "broker.vouchmq.local"
	DefaultPublicName   = "mqtt.localhost" // tells an observer nothing
	PlainListener       = "plain"
	AttestedListener    = "attested"
	DefaultPlainAddress = "127.0.0.1:1883"
	DefaultTLSAddress   = "127.0.0.1:8883"
)

// DevelopmentOptions change a development broker. The zero value is usable but for Module and Now.
type DevelopmentOptions struct {
	Dir         string // state folder; "" is vouchmq-dev
	Service     string // "" is broker.vouchmq.local
	Plain       string // address of the plain listener; "" is 127.0.0.1:1883, "-" is none
	Attested    string // address of the attested listener; "" is 127.0.0.1:8883
	Engine      Engine
	Module      []byte
	MemoryLimit uint64
	Limits      Limits
	Sight       Sight
	Now         time.Time
	Log         *slog.Logger
}

func (o DevelopmentOptions) withDefaults() DevelopmentOptions {
	merge(&o.Dir, DevelopmentDir)
	merge(&o.Service, DevelopmentService)
	merge(&o.Plain, DefaultPlainAddress)
	merge(&o.Attested, DefaultTLSAddress)
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	return o
}

// Development returns the configuration of a broker that needs no file: it makes, in the state folder, an
// owner, certificates, a key for a simulated TEE and a policy that lets everybody do everything. Nothing of
// this protects anything; the log says so.
func Development(o DevelopmentOptions) (Config, *State, error) {
	o = o.withDefaults()
	state, err := OpenState(o.Dir, o.Service, DefaultPublicName, o.Now)
	if err != nil {
		return Config{}, nil, err
	}
	runtime, err := RuntimeDigest()
	if err != nil {
		return Config{}, nil, err
	}
	p, err := state.developmentPolicy(runtime)
	if err != nil {
		return Config{}, nil, fmt.Errorf("state folder %s: %w", o.Dir, err)
	}
	config := Config{
		Service: o.Service, Policy: p, Limits: o.Limits,
		Engine: o.Engine, Module: o.Module, MemoryLimit: o.MemoryLimit, Runtime: runtime, Log: o.Log, Sight: o.Sight,
	}
	state.Configure(&config)
	if o.Plain != "-" {
		config.Listeners = append(config.Listeners, Listener{Name: PlainListener, Kind: TCP, Address: o.Plain, Insecure: o.Plain != DefaultPlainAddress})
	}
	config.Listeners = append(config.Listeners, Listener{Name: AttestedListener, Kind: Attested, Address: o.Attested})
	state.warn(o.Log)
	return config, state, nil
}

// Configure gives a configuration the keys, the certificate and the simulated TEE of the folder.
func (s *State) Configure(c *Config) {
	c.OwnerKey = attest.Sum(s.OwnerCertificate().RawSubjectPublicKeyInfo)
	c.Certificate = s.Certificate
	c.ECHKeys = s.ECHKeys
	c.Attester = sim.NewAttester(s.Sim, c.Runtime) // unless there is a real one
	c.Registry = client.Drivers()
}

// warn says loudly what a development broker is not.
func (s *State) warn(log *slog.Logger) {
	if log == nil {
		return
	}
	s.warnSimulated(log)
	log.Warn("DEVELOPMENT RULES: everybody who can connect may publish and subscribe everything", "policy", s.Path(PolicyFile))
}

// warnSimulated says what has been made, and that evidence made with the folder's key protects nothing.
func (s *State) warnSimulated(log *slog.Logger) {
	if log == nil {
		return
	}
	if len(s.Made) > 0 {
		log.Info("made what was missing", "folder", s.Dir, "files", s.Made)
	}
	log.Warn("SIMULATED TEE: this broker's evidence protects nothing; whoever reads the folder can forge it", "folder", s.Dir)
}

// generated is the first line of a policy that may be made anew.
const generated = "# Made by `vouchmq serve`, and made anew at every start. Remove this line to keep your changes.\n"

// developmentPolicy reads the policy of the folder. As long as nobody has made it their own it is made anew: it
// names the digest of this program, which changes with every build.
func (s *State) developmentPolicy(program attest.Digest) (*policy.Policy, error) {
	b, err := s.read(PolicyFile)
	if err != nil {
		return nil, err
	}
	if b != nil && !bytes.HasPrefix(b, []byte(generated)) {
		return policy.Parse(s.Path(PolicyFile), b)
	}
	p, err := openPolicy(program, s.Sim.Digest())
	if err != nil {
		return nil, err
	}
	if fresh := append([]byte(generated), p.YAML()...); !bytes.Equal(b, fresh) {
		return p, s.write(PolicyFile, fresh)
	}
	return p, nil
}

// ClientIdentity is the identity that the development policy gives to this program's own clients when they
// attest with the folder's simulated TEE.
const ClientIdentity = "client"

// openPolicy lets everybody do everything.
func openPolicy(program, key attest.Digest) (*policy.Policy, error) {
	identities := []policy.Identity{policy.Simulated(ClientIdentity, program, attest.Digest{}, key)}
	everything := []string{"#", "$SYS/#"}
	return policy.New(identities, []policy.Rule{{
		Who: []policy.Who{{Identity: ClientIdentity}, {Anonymous: true}}, Publish: everything, Subscribe: everything,
	}})
}

// BundleFile returns the name of the bundle of a service.
func BundleFile(service string) string { return service + ".bundle" }

// WriteBundle writes, beside the state, the bundle for clients of a running broker: it pins owner, module,
// configuration and the key of the simulated TEE. A bundle that says the same already is left alone;
// otherwise its serial number grows. It returns the path, and whether the bundle is new. With a real
// TEE there is none: then what clients should demand is for the owner to say, and not for the machine.
func (s *State) WriteBundle(broker *Server, now time.Time) (path string, fresh bool, err error) {
	if !broker.Config().Attester.Platform().Simulated() {
		return "", false, nil
	}
	b, err := s.bundle(broker, now)
	if err != nil {
		return "", false, fmt.Errorf("bundle: %w", err)
	}
	name := BundleFile(s.Service)
	if old, err := client.ReadBundle(s.Path(name)); err == nil { // one that is missing or damaged is made anew
		if same(old, b) {
			return s.Path(name), false, nil
		}
		b.Serial = old.Serial + 1
	}
	signed, err := b.Sign(s.Owner.Key())
	if err != nil {
		return "", false, fmt.Errorf("bundle: %w", err)
	}
	return s.Path(name), true, s.write(name, signed)
}

func (s *State) bundle(broker *Server, now time.Time) (*client.Bundle, error) {
	identity := broker.Identity()
	p, err := policy.New([]policy.Identity{policy.Simulated("broker", identity.Module, identity.Config, s.Sim.Digest())}, nil)
	if err != nil {
		return nil, err
	}
	return &client.Bundle{
		Service: s.Service, Addresses: attestedAddresses(broker), OwnerCA: s.Owner.Certificate(),
		ECHConfigList: atls.ECHConfigList(s.ECHKeys...), Policy: p, Serial: 1, IssuedAt: now,
	}, nil
}

// attestedAddresses returns where a client on this machine finds the attested listeners.
func attestedAddresses(broker *Server) []string {
	var list []string
	for _, l := range broker.Config().Listeners {
		if l.Kind != Attested {
			continue
		}
		address, ok := broker.Addr(l.Name).(*net.TCPAddr)
		if !ok {
			continue // a client knows no other addresses
		}
		if address.IP.IsUnspecified() {
			list = append(list, net.JoinHostPort("localhost", fmt.Sprint(address.Port)))
			continue
		}
		list = append(list, address.String())
	}
	return list
}

// same compares two bundles but for serial number and date.
func same(a, b *client.Bundle) bool {
	return a.Service == b.Service && a.OwnerCA.Equal(b.OwnerCA) && bytes.Equal(a.ECHConfigList, b.ECHConfigList) &&
		a.Policy.Digest() == b.Policy.Digest() && slices.Equal(a.Addresses, b.Addresses)
}

// RuntimeDigest returns the SHA-384 of this program's file.
func RuntimeDigest() (attest.Digest, error) {
	path, err := os.Executable()
	if err != nil {
		return attest.Digest{}, fmt.Errorf("digest of this program: %w", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return attest.Digest{}, fmt.Errorf("digest of this program: %w", err)
	}
	return attest.Sum(b), nil
}
