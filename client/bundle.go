package client

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/sign1"
)

// What can be wrong with a bundle, for errors.Is.
var (
	ErrBundleFormat    = errors.New("not a VouchMQ bundle, or cut short or damaged on its way")
	ErrBundleVersion   = errors.New("bundle is of another version")
	ErrBundleSignature = errors.New("bundle is not signed by its owner: it was tampered with")
	ErrBundleContent   = errors.New("bundle has a content that cannot be used")
)

const (
	bundlePEM     = "VOUCHMQ BUNDLE"
	bundleDomain  = "vouchmq/bundle/v2"
	bundleVersion = 2
	maxBundle     = 1 << 20 // bytes of the file
	maxAddresses  = 64
)

// Bundle is what a client needs to know of a broker, or of several that serve one name.
type Bundle struct {
	Service       string   // name of the service
	Addresses     []string // host:port, tried in order; may be empty if the caller knows one
	OwnerCA       *x509.Certificate
	ECHConfigList []byte
	Policy        *policy.Policy // whose identities are those that a broker may have; it has no rules
	Serial        uint64         // grows with each bundle that this owner CA signs for the service
	IssuedAt      time.Time
	NotAfter      time.Time         // from when on the bundle is of no use; zero: it does not expire
	NextCA        *x509.Certificate // of the owner, to come after OwnerCA; nil: none is announced
}

// bundleWire is the signed content: deterministic CBOR.
type bundleWire struct {
	Version   uint64   `cbor:"version"`
	Service   string   `cbor:"service"`
	Addresses []string `cbor:"addresses"`
	OwnerCA   []byte   `cbor:"owner_ca"`
	ECH       []byte   `cbor:"ech"`
	Policy    []byte   `cbor:"policy"`
	Serial    uint64   `cbor:"serial"`
	IssuedAt  int64    `cbor:"issued_at"`
	NotAfter  int64    `cbor:"not_after"` // 0: never
	NextCA    []byte   `cbor:"next_ca"`   // empty: none
}

// versionWire reads the version of a bundle whose other fields may be unknown.
type versionWire struct {
	Version uint64 `cbor:"version"`
}

// Sign returns the bundle as a file, signed by the key of its owner CA.
func (b *Bundle) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(b.OwnerCA.PublicKey) {
		return nil, fmt.Errorf("%w: key is not that of the owner CA", ErrBundleSignature)
	}
	payload, err := b.payload()
	if err != nil {
		return nil, err
	}
	signed, err := sign1.Sign(key, bundleDomain, payload)
	if err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: bundlePEM, Bytes: signed}), nil
}

// payload is what is signed.
func (b *Bundle) payload() ([]byte, error) {
	w := bundleWire{
		Version: bundleVersion, Service: b.Service, Addresses: append([]string{}, b.Addresses...),
		OwnerCA: b.OwnerCA.Raw, ECH: b.ECHConfigList, Policy: b.Policy.Canonical(),
		Serial: b.Serial, IssuedAt: b.IssuedAt.Unix(), NextCA: []byte{},
	}
	if !b.NotAfter.IsZero() {
		w.NotAfter = b.NotAfter.Unix()
	}
	if b.NextCA != nil {
		w.NextCA = b.NextCA.Raw
	}
	payload, err := dcbor.Encode(w)
	if err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	return payload, nil
}

// ReadBundle reads a bundle from a file.
func ReadBundle(path string) (*Bundle, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxBundle+1)) // ParseBundle says that it is too large
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	b, err := ParseBundle(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// ParseBundle reads what Sign wrote. It checks that the bundle is signed by the owner CA in it; that this
// owner is the one you mean, it cannot know: see Fingerprint. Nor does it look at the date or at an older bundle: see
// CheckTime and Succeeds.
func ParseBundle(data []byte) (*Bundle, error) {
	message, err := openArmour(data)
	if err != nil {
		return nil, err
	}
	// The version is read first and leniently, so that a newer bundle is not called damaged.
	var w bundleWire
	if err := decodePayload(message.Unverified(), &w); err != nil {
		return nil, err
	}
	ca, err := x509.ParseCertificate(w.OwnerCA)
	if err != nil {
		return nil, fmt.Errorf("%w: owner CA: %w", ErrBundleFormat, err)
	}
	if err := owner.CheckCA(ca); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundleContent, err)
	}
	if err := message.Verify(ca.PublicKey.(*ecdsa.PublicKey), bundleDomain); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundleSignature, err)
	}
	return w.bundle(ca)
}

func openArmour(data []byte) (*sign1.Message, error) {
	if len(data) > maxBundle {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrBundleFormat, maxBundle)
	}
	block, rest := pem.Decode(bytes.TrimSpace(data))
	if block == nil || block.Type != bundlePEM || len(block.Headers) != 0 || len(rest) != 0 {
		return nil, fmt.Errorf("%w: it is not one PEM block of type %q", ErrBundleFormat, bundlePEM)
	}
	message, err := sign1.Parse(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundleFormat, err)
	}
	return message, nil
}

func decodePayload(payload []byte, w *bundleWire) error {
	var v versionWire
	if err := dcbor.DecodeLenient(payload, &v); err != nil {
		return fmt.Errorf("%w: %w", ErrBundleFormat, err)
	}
	if v.Version != bundleVersion {
		return fmt.Errorf("%w: version %d, and this program knows version %d: update it, or ask the owner for another bundle", ErrBundleVersion, v.Version, bundleVersion)
	}
	if err := dcbor.Decode(payload, w); err != nil {
		return fmt.Errorf("%w: %w", ErrBundleFormat, err)
	}
	return nil
}

func (w *bundleWire) bundle(ca *x509.Certificate) (*Bundle, error) {
	p, err := policy.ParseCanonical(w.Policy)
	if err != nil {
		return nil, fmt.Errorf("%w: policy: %w", ErrBundleContent, err)
	}
	b := &Bundle{
		Service: w.Service, Addresses: w.Addresses, OwnerCA: ca, ECHConfigList: w.ECH, Policy: p,
		Serial: w.Serial, IssuedAt: time.Unix(w.IssuedAt, 0).UTC(),
	}
	if w.NotAfter != 0 {
		b.NotAfter = time.Unix(w.NotAfter, 0).UTC()
	}
	if len(w.NextCA) > 0 {
		if b.NextCA, err = x509.ParseCertificate(w.NextCA); err != nil {
			return nil, fmt.Errorf("%w: next owner CA: %w", ErrBundleFormat, err)
		}
	}
	return b, b.check()
}

func (b *Bundle) check() error {
	if b.OwnerCA == nil || b.Policy == nil {
		return fmt.Errorf("%w: owner CA or policy is missing", ErrBundleContent)
	}
	if err := errors.Join(owner.CheckCA(b.OwnerCA), atls.CheckServiceName(b.Service)); err != nil {
		return fmt.Errorf("%w: %w", ErrBundleContent, err)
	}
	if b.NextCA != nil {
		if err := owner.CheckCA(b.NextCA); err != nil {
			return fmt.Errorf("%w: the announced one: %w", ErrBundleContent, err)
		}
	}
	if _, err := atls.CheckECHConfigList(b.ECHConfigList); err != nil {
		return fmt.Errorf("%w: %w", ErrBundleContent, err)
	}
	if len(b.Policy.Identities()) == 0 || len(b.Policy.Rules()) != 0 {
		return fmt.Errorf("%w: its policy must have identities of the broker, and no rules", ErrBundleContent)
	}
	if len(b.Addresses) > maxAddresses {
		return fmt.Errorf("%w: more than %d addresses", ErrBundleContent, maxAddresses)
	}
	for _, a := range b.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" || strings.ContainsFunc(a, unseen) {
			return fmt.Errorf("%w: address %q is not host:port", ErrBundleContent, a)
		}
	}
	return nil
}

// unseen reports whether a character has no shape: what a bundle says is shown on terminals before anybody knows whose it is.
func unseen(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }

// Fingerprint returns the digest of the owner's public key, for a person to compare with what the owner says.
func (b *Bundle) Fingerprint() attest.Digest { return owner.Fingerprint(b.OwnerCA) }
