package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/azure"
	"github.com/vouchmq/vouchmq/attest/cca"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/nitro"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
	"github.com/vouchmq/vouchmq/attest/sgx"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/attest/tdx"
	"github.com/vouchmq/vouchmq/attest/tpm"
)

// Verdict is the outcome of the appraisal of a broker.
type Verdict = policy.Verdict

// Options are what a caller may want otherwise than by default. The zero value is good.
type Options struct {
	// Address, host:port, replaces the addresses of the bundle.
	Address string
	// Dial replaces net.Dialer.DialContext, for proxies and tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Attester makes evidence of this client for a broker that wants it; Identity is what it claims.
	Attester attest.Attester
	Identity attest.Identity

	// Unattested does not ask for evidence: the broker is known by its certificate only. An observer cannot
	// tell.
	Unattested bool

	// Carrier is how the broker's evidence travels: atls.N1, which "" means, or atls.P1, which takes a round trip more.
	Carrier atls.Carrier
	// Certificate is shown to a broker that reveals its evidence only to clients that have one. Others do not ask for it: see
	// CertificateAsked of atls.Peer.
	Certificate *tls.Certificate

	// Registry has the drivers to verify with; default: those of this build, see Drivers.
	Registry *attest.Registry

	HandshakeTimeout time.Duration // default 10 s, 30 s if the bundle names a TPM
	EvidenceTimeout  time.Duration // default 5 s, 30 s if the bundle names a TPM
	Rand             io.Reader     // default crypto/rand
	Now              func() time.Time
}

func (o *Options) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

// Drivers returns the verifiers of this build: of SGX and TDX with the collateral that comes with the evidence, of AMD
// SEV-SNP, TPMs, AWS Nitro Enclaves, Arm CCA, of confidential VMs of Azure, and of the simulated TEE.
func Drivers() *attest.Registry { return drivers() }

// drivers are made once: they are immutable, and a client connects more than once.
var drivers = sync.OnceValue(func() *attest.Registry { return DriversWith(nil) })

// DriversWith returns the verifiers of this build, which prefer the collateral of a store to that of the evidence.
func DriversWith(store *collateral.Store) *attest.Registry {
	return attest.NewRegistry(
		sgx.NewVerifier(store), tdx.NewVerifier(store), sevsnp.NewVerifier(), tpm.NewVerifier(), nitro.NewVerifier(), cca.NewVerifier(),
		azure.NewVerifier(store), sim.NewVerifier(),
	)
}

// Dial connects to a broker and returns the connection once the broker's evidence has been accepted. The
// verdict is also returned with an error if there was evidence to judge; it is nil if there was none, and
// with Options.Unattested.
//
// Addresses are tried in order until one can be reached. A broker that can be reached and is refused ends the
// search: that it is not what it should be must not go unnoticed.
func Dial(ctx context.Context, b *Bundle, o Options) (*atls.Conn, *Verdict, error) {
	if err := b.CheckTime(o.now()); err != nil {
		return nil, nil, err
	}
	config := b.config(o)
	conn, err := atls.Dial(ctx, func(ctx context.Context) (net.Conn, error) { return o.connect(ctx, b) }, config)
	var refused *atls.RefusedError
	switch {
	case errors.As(err, &refused):
		return nil, refused.Verdict, err
	case err != nil:
		return nil, nil, err
	}
	return conn, conn.Peer().Verdict, nil
}

// Refused says whether an error of Dial, or of a round of re-attestation, means that a broker was reached and is not what it should
// be. Others may pass: nobody was reached, or the connection broke, or it took too long.
func Refused(err error) bool {
	var certificate *tls.CertificateVerificationError
	switch policy.KindOf(err) {
	case 0, attest.ErrTimeout:
		return false
	case attest.ErrTLS:
		return errors.As(err, &certificate)
	}
	return true
}

func (b *Bundle) config(o Options) *atls.ClientConfig {
	config := &atls.ClientConfig{
		Service: b.Service, Roots: b.Roots(), ECHConfigList: b.ECHConfigList,
		Unattested: o.Unattested, Carrier: o.Carrier, Certificate: o.Certificate, Attester: o.Attester, Identity: o.Identity,
		HandshakeTimeout: o.HandshakeTimeout, EvidenceTimeout: o.EvidenceTimeout, Rand: o.Rand, Now: o.Now,
	}
	registry := o.Registry
	if registry == nil {
		registry = Drivers()
	}
	if !o.Unattested {
		config.Server = policy.NewAppraiser(b.Policy, registry)
	}
	return config
}

// errNoAddress says what to do about a bundle without address.
var errNoAddress = errors.New("bundle names no address: give one")

// connect reaches the first address that can be reached.
func (o *Options) connect(ctx context.Context, b *Bundle) (net.Conn, error) {
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	addresses := b.Addresses
	if o.Address != "" {
		addresses = []string{o.Address}
	}
	if len(addresses) == 0 {
		return nil, errNoAddress
	}
	var failures []error
	for _, address := range addresses {
		conn, err := dial(ctx, "tcp", address)
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// Report is what Inspect found.
type Report struct {
	Service     string
	Address     string            // that was reached
	Carrier     atls.Carrier      // that was asked for
	Certificate *x509.Certificate // of the broker, verified; nil if TLS did not come that far
	TLSVersion  uint16
	// CertificateAsked says that the broker asked for the certificate of the client.
	CertificateAsked bool

	Evidence []byte // of the broker, as it came: a CMW collection; nil if none came

	Verdict *Verdict // never nil; its Err tells why a broker was refused, or why there is nothing to judge
}

// Inspect connects to see who is there. It sends no application data and no evidence of its own. The error
// says that nobody could be reached; whatever happens after that is in the report's verdict.
func Inspect(ctx context.Context, b *Bundle, o Options) (*Report, error) {
	if err := b.CheckTime(o.now()); err != nil {
		return nil, err
	}
	o.Attester, o.Unattested = nil, false
	report := &Report{Service: b.Service, Carrier: cmp.Or(o.Carrier, atls.N1)}
	config := b.config(o)
	config.Observe = func(evidence []byte) { report.Evidence = bytes.Clone(evidence) }
	var unreachable error
	conn, err := atls.Dial(ctx, func(ctx context.Context) (net.Conn, error) {
		raw, err := o.connect(ctx, b)
		if err != nil {
			unreachable = fmt.Errorf("broker cannot be reached: %w", err)
			return nil, unreachable
		}
		report.Address = raw.RemoteAddr().String()
		return raw, nil
	}, config)
	if unreachable != nil {
		return nil, unreachable
	}
	if err != nil {
		report.refused(err, o.now())
		return report, nil
	}
	defer conn.Close()
	report.fill(conn.Peer())
	return report, nil
}

func (r *Report) fill(p *atls.Peer) {
	r.Verdict, r.TLSVersion, r.CertificateAsked = p.Verdict, p.TLSVersion, p.CertificateAsked
	if len(p.Certificates) > 0 {
		r.Certificate = p.Certificates[0]
	}
}

func (r *Report) refused(err error, now time.Time) {
	var refused *atls.RefusedError
	if errors.As(err, &refused) {
		r.fill(refused.Peer)
		return
	}
	r.Verdict = policy.Refused(err, now)
}
