package nitro

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/veraison/go-cose"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/links"
)

// rootG1 returns the SHA-256 digest of AWS's root certificate G1 (DER), as the user guide gives it. It is valid until 2049-10-28.
func rootG1() [sha256.Size]byte {
	return [sha256.Size]byte{
		0x64, 0x1a, 0x03, 0x21, 0xa3, 0xe2, 0x44, 0xef, 0xe4, 0x56, 0x46, 0x31, 0x95, 0xd6, 0x06, 0x31,
		0x7e, 0xd7, 0xcd, 0xcc, 0x3c, 0x17, 0x56, 0xe0, 0x98, 0x93, 0xf3, 0xc6, 0x8f, 0x79, 0xbb, 0x5b,
	}
}

// maxSkew is how far ahead of the verifier's clock that of the hypervisor may be.
const maxSkew = 5 * time.Minute

// Verifier verifies attestation documents. It needs nothing but the document: collateral there is none.
type Verifier struct {
	root     [sha256.Size]byte // digest of the certificate
	verified *links.Memory     // what it has signed
}

// NewVerifier returns a verifier that trusts AWS's root G1.
func NewVerifier() Verifier { return Verifier{root: rootG1(), verified: links.New()} }

// WithRoot returns a verifier that trusts another root than AWS's. It serves tests that make documents of their own.
func (Verifier) WithRoot(root *x509.Certificate) Verifier {
	return Verifier{root: sha256.Sum256(root.Raw), verified: links.New()}
}

// Platform returns attest.Nitro.
func (Verifier) Platform() attest.Platform { return attest.Nitro }

// Verify checks the chain to the root at the time now, and the signature. Versions there are none; HardwareID is the parent
// instance, "nitro:" and the digits of its id.
func (v Verifier) Verify(_ context.Context, q attest.Quote, _ attest.ReportData, now time.Time) (attest.PlatformClaims, error) {
	var none attest.PlatformClaims
	m, d, err := parse(q.Data)
	if err != nil {
		return none, attest.Errorf(attest.ErrFormat, "attestation document: %w", err)
	}
	leaf, expiry, err := v.chain(d, now)
	if err != nil {
		return none, err
	}
	if err := checkSignature(m, leaf); err != nil {
		return none, err
	}
	if d.time().After(now.Add(maxSkew)) {
		return none, attest.Errorf(attest.ErrFreshness, "attestation document is from the future: it was made at %s", d.time().Format(time.RFC3339))
	}
	return d.claims(expiry), nil
}

// chain verifies the certificates and returns that of the signer, and when the first of them expires. The root comes with
// the document, and is taken for what it is by its digest.
func (v Verifier) chain(d *document, now time.Time) (leaf *x509.Certificate, expiry time.Time, err error) {
	if sha256.Sum256(d.CABundle[0]) != v.root {
		return nil, expiry, attest.Errorf(attest.ErrSignature, "attestation document: the root of its certificates is not that of AWS Nitro Enclaves")
	}
	given := make([]*x509.Certificate, 1+len(d.CABundle)) // the leaf first, the root last
	for i, der := range d.CABundle {
		if given[len(d.CABundle)-i], err = x509.ParseCertificate(der); err != nil {
			return nil, expiry, attest.Errorf(attest.ErrFormat, "attestation document: certificate %d of cabundle: %w", i, err)
		}
	}
	if given[0], err = x509.ParseCertificate(d.Certificate); err != nil {
		return nil, expiry, attest.Errorf(attest.ErrFormat, "attestation document: certificate: %w", err)
	}
	chain, err := v.verified.Verify(given, now)
	if err != nil {
		return nil, expiry, chainError(err)
	}
	return given[0], attest.FirstExpiry(chain), nil
}

func chainError(err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return attest.Errorf(attest.ErrFreshness, "attestation document: its certificates are not valid now: %w", err)
	}
	return attest.Errorf(attest.ErrSignature, "attestation document: its certificates do not lead to the root of AWS Nitro Enclaves: %w", err)
}

func checkSignature(m *cose.Sign1Message, leaf *x509.Certificate) error {
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return attest.Errorf(attest.ErrSignature, "attestation document: its key is not on P-384")
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmES384, key)
	if err == nil {
		err = m.Verify(nil, verifier)
	}
	if err != nil {
		return attest.Errorf(attest.ErrSignature, "signature of the attestation document is not valid: %w", err)
	}
	return nil
}

func (d *document) claims(expiry time.Time) attest.PlatformClaims {
	c := attest.PlatformClaims{
		Platform: attest.Nitro, ReportData: d.UserData, Measurements: map[string][]byte{},
		TCB: attest.TCBNotApplicable, Debug: d.debug(), HardwareID: d.instance(), Expiry: expiry,
	}
	for i, v := range d.PCRs {
		c.Measurements["pcr"+strconv.Itoa(int(i))] = v
	}
	return c
}

// debug reports whether the host can read the enclave: the PCRs of the image are zero, or not there.
func (d *document) debug() bool {
	for i := range uint8(3) {
		if !allZero(d.PCRs[i]) {
			return false
		}
	}
	return true
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

var moduleID = regexp.MustCompile(`^i-([0-9a-f]{8,17})-enc[0-9a-f]{8,17}$`)

// instance names the parent instance, "" if module_id is of another form than the one that is documented.
func (d *document) instance() string {
	found := moduleID.FindStringSubmatch(d.ModuleID)
	if found == nil {
		return ""
	}
	return fmt.Sprintf("%s:%s", attest.Nitro, found[1])
}
