// Package sim is a simulated TEE for development and tests. IT PROTECTS NOTHING: whoever reads its key file,
// or makes a key of their own, makes whatever evidence they like.
//
// It exists so that everything above the hardware can be run and tested anywhere. Three things keep it
// from being mistaken for protection: its profile and its file format say INSECURE, its TCB status is
// always "Simulated", and a policy accepts it only in an identity that says "simulated: allow".
//
// A quote is a COSE_Sign1 message (ES256) over a deterministic CBOR map with the report data, a
// measurement, and the public key. A policy can pin the key: see [Key.Digest].
package sim

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/sign1"
)

const (
	profile      = "tag:vouchmq.dev,2026:sim-INSECURE/1"
	domain       = "vouchmq/sim-INSECURE/v1"
	pemType      = "VOUCHMQ INSECURE SIMULATED TEE KEY"
	maxQuoteSize = 1024
)

// Key is the key of a simulated TEE: ECDSA P-256.
type Key struct {
	private *ecdsa.PrivateKey
	public  []byte // SubjectPublicKeyInfo, DER
}

// NewKey makes a key.
func NewKey() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of simulated TEE: %w", err)
	}
	return keyOf(private)
}

func keyOf(private *ecdsa.PrivateKey) (*Key, error) {
	if private.Curve != elliptic.P256() {
		return nil, fmt.Errorf("key of simulated TEE is not on P-256")
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("key of simulated TEE: %w", err)
	}
	return &Key{private: private, public: public}, nil
}

// Digest returns the SHA-384 digest of the public key (SubjectPublicKeyInfo, DER), by which a policy pins it.
func (k *Key) Digest() attest.Digest { return attest.Sum(k.public) }

// Marshal returns the private key as PEM, for a development broker that keeps its key between runs.
func (k *Key) Marshal() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("key of simulated TEE: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

// ParseKey reads what Marshal wrote.
func ParseKey(data []byte) (*Key, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemType || len(rest) != 0 {
		return nil, fmt.Errorf("key of simulated TEE: not one PEM block of type %q; delete the file to have a new key made", pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key of simulated TEE: %w", err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key of simulated TEE is not an ECDSA key")
	}
	return keyOf(private)
}

// Faults make an attester misbehave, so that tests see what verifiers do. The zero value has none.
type Faults struct {
	Debug          bool               // claim debug mode
	ZeroReportData bool               // sign 64 zeros
	ReportData     *attest.ReportData // sign this instead of what is asked
	TCB            attest.TCBStatus   // instead of Simulated
	Advisories     []string
	Expiry         time.Time     // of the pretended collateral
	Delay          time.Duration // before each quote
	BadSignature   bool          // break the signature
	Padding        int           // bytes of endorsements, to make evidence large
}

// Attester is the simulated TEE.
type Attester struct {
	key         *Key
	measurement attest.Digest
	faults      Faults
	device      *device // nil: quotes take no time
}

// device is hardware that takes its time, and does one thing after the other.
type device struct {
	quoteTime time.Duration
	turn      chan struct{} // holds a token while a quote is made
}

// NewAttester returns an attester that signs with key and claims to have measured measurement.
func NewAttester(key *Key, measurement attest.Digest) *Attester {
	return &Attester{key: key, measurement: measurement}
}

// WithFaults returns a copy of a that misbehaves.
func (a *Attester) WithFaults(f Faults) *Attester {
	b := *a
	b.faults = f
	return &b
}

// WithQuoteTime returns a copy of a whose quotes take so long, and are made one at a time: as a device of its own would do, for
// measurements. A time of 0 is no device.
func (a *Attester) WithQuoteTime(d time.Duration) *Attester {
	b := *a
	b.device = nil
	if d > 0 {
		b.device = &device{quoteTime: d, turn: make(chan struct{}, 1)}
	}
	return &b
}

// Platform returns attest.Sim.
func (a *Attester) Platform() attest.Platform { return attest.Sim }

// bodyWire is what a quote signs.
type bodyWire struct {
	Profile     string   `cbor:"1,keyasint"`
	ReportData  []byte   `cbor:"2,keyasint"`
	Measurement []byte   `cbor:"3,keyasint"`
	PublicKey   []byte   `cbor:"4,keyasint"`
	Debug       bool     `cbor:"5,keyasint"`
	TCB         string   `cbor:"6,keyasint"`
	Advisories  []string `cbor:"7,keyasint"`
	Expiry      int64    `cbor:"8,keyasint"` // seconds since 1970, 0: never
}

// Attest signs the report data.
func (a *Attester) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	if err := errors.Join(wait(ctx, a.faults.Delay), a.device.work(ctx)); err != nil {
		return attest.Quote{}, err
	}
	body, err := dcbor.Encode(a.body(data))
	if err != nil {
		return attest.Quote{}, fmt.Errorf("encode simulated quote: %w", err)
	}
	quote, err := sign1.Sign(a.key.private, domain, body)
	if err != nil {
		return attest.Quote{}, fmt.Errorf("sign simulated quote: %w", err)
	}
	if a.faults.BadSignature {
		quote[len(quote)-1] ^= 1
	}
	q := attest.Quote{Platform: attest.Sim, Data: quote}
	if a.faults.Padding > 0 {
		q.Endorsements = make([]byte, a.faults.Padding)
	}
	return q, nil
}

// work waits for the device's turn, and for as long as it takes.
func (d *device) work(ctx context.Context) error {
	if d == nil {
		return nil
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.turn }()
	return wait(ctx, d.quoteTime)
}

func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Attester) body(data attest.ReportData) bodyWire {
	f := a.faults
	if f.ZeroReportData {
		data = attest.ReportData{}
	}
	if f.ReportData != nil {
		data = *f.ReportData
	}
	w := bodyWire{
		Profile:     profile,
		ReportData:  data[:],
		Measurement: a.measurement[:],
		PublicKey:   a.key.public,
		Debug:       f.Debug,
		TCB:         string(attest.TCBSimulated),
		Advisories:  f.Advisories,
	}
	if f.TCB != "" {
		w.TCB = string(f.TCB)
	}
	if !f.Expiry.IsZero() {
		w.Expiry = f.Expiry.Unix()
	}
	return w
}

// Verifier verifies simulated quotes. It tells only that a quote was signed by the key that it shows; which
// keys are acceptable, and whether simulation is acceptable at all, is for the policy to say.
type Verifier struct{}

// NewVerifier returns a verifier.
func NewVerifier() Verifier { return Verifier{} }

// Platform returns attest.Sim.
func (Verifier) Platform() attest.Platform { return attest.Sim }

// Verify checks the signature. Of the measurements, "measurement" is the attester's and "key" the digest of
// its public key.
func (Verifier) Verify(_ context.Context, q attest.Quote, _ attest.ReportData, _ time.Time) (attest.PlatformClaims, error) {
	if len(q.Data) > maxQuoteSize {
		return attest.PlatformClaims{}, attest.Errorf(attest.ErrFormat, "simulated quote of %d bytes is too large (at most %d)", len(q.Data), maxQuoteSize)
	}
	message, err := sign1.Parse(q.Data)
	if err != nil {
		return attest.PlatformClaims{}, attest.Errorf(attest.ErrFormat, "simulated quote: %w", err)
	}
	var body bodyWire
	if err := dcbor.Decode(message.Unverified(), &body); err != nil {
		return attest.PlatformClaims{}, attest.Errorf(attest.ErrFormat, "simulated quote: %w", err)
	}
	if err := body.check(); err != nil {
		return attest.PlatformClaims{}, err
	}
	if err := verifySignature(message, body.PublicKey); err != nil {
		return attest.PlatformClaims{}, err
	}
	return body.claims(), nil
}

func (w *bodyWire) check() error {
	if w.Profile != profile {
		return attest.Errorf(attest.ErrFormat, "simulated quote: unknown profile")
	}
	if len(w.ReportData) != attest.ReportDataSize || len(w.Measurement) != attest.DigestSize {
		return attest.Errorf(attest.ErrFormat, "simulated quote: report data or measurement has the wrong length")
	}
	if !attest.TCBStatus(w.TCB).Known() {
		return attest.Errorf(attest.ErrFormat, "simulated quote: unknown TCB status")
	}
	return nil
}

// publicKeyHead is what a SubjectPublicKeyInfo of P-256 (RFC 5480) begins with: all but the point.
const publicKeyHead = "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"

func verifySignature(message *sign1.Message, public []byte) error {
	point, ok := bytes.CutPrefix(public, []byte(publicKeyHead))
	if !ok {
		return attest.Errorf(attest.ErrFormat, "simulated quote: public key is not an ECDSA key on P-256")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return attest.Errorf(attest.ErrFormat, "simulated quote: public key: %w", err)
	}
	if err := message.Verify(key, domain); err != nil {
		return attest.Errorf(attest.ErrSignature, "signature of the simulated quote is not valid: %w", err)
	}
	return nil
}

func (w *bodyWire) claims() attest.PlatformClaims {
	key := attest.Sum(w.PublicKey)
	c := attest.PlatformClaims{
		Platform:     attest.Sim,
		ReportData:   w.ReportData,
		Measurements: map[string][]byte{"measurement": w.Measurement, "key": key[:]},
		TCB:          attest.TCBStatus(w.TCB),
		Advisories:   w.Advisories,
		Debug:        w.Debug,
		HardwareID:   "sim:" + hex.EncodeToString(key[:16]),
	}
	if w.Expiry != 0 {
		c.Expiry = time.Unix(w.Expiry, 0).UTC()
	}
	return c
}
