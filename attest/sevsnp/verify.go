package sevsnp

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"maps"
	"math/big"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/links"
)

// The conditions that a policy must allow by name, see [attest.PlatformClaims].
const (
	SMT                 = "smt"
	MigrationAgent      = "migration_agent"
	ProvisionalFirmware = "provisional_firmware"
)

// Verifier verifies reports. It needs nothing but the report and the certificate that comes with it.
type Verifier struct {
	lines    map[string]func() (authorities, error)
	verified *links.Memory // what AMD's root has signed
}

// NewVerifier returns a verifier that trusts AMD's roots of Milan, Genoa and Turin.
func NewVerifier() *Verifier {
	v := &Verifier{lines: map[string]func() (authorities, error){}, verified: links.New()}
	for _, l := range lines() {
		v.lines[l.name] = sync.OnceValues(func() (authorities, error) { return authoritiesOf(l.name) })
	}
	return v
}

// WithAuthorities returns a verifier that trusts other certificates than AMD's for a line (Milan, Genoa, Turin): a root, and what it has signed
// for VCEKs and for VLEKs. It serves tests that make reports of their own.
func (v *Verifier) WithAuthorities(line string, root, vcekSigner, vlekSigner *x509.Certificate) *Verifier {
	w := &Verifier{lines: maps.Clone(v.lines), verified: links.New()}
	w.lines[line] = func() (authorities, error) {
		return authorities{root, map[signer]*x509.Certificate{vcek: vcekSigner, vlek: vlekSigner}}, nil
	}
	return w
}

// Platform returns attest.SEVSNP.
func (*Verifier) Platform() attest.Platform { return attest.SEVSNP }

// Verify checks the certificate's chain at the time now, that it is for the chip and the versions of the report, and the signature.
// Versions are those of the report's REPORTED_TCB (bootloader, tee, snp, microcode, fmc), vmpl and guest_svn.
func (v *Verifier) Verify(_ context.Context, q attest.Quote, _ attest.ReportData, now time.Time) (attest.PlatformClaims, error) {
	var none attest.PlatformClaims
	r, err := parseReport(q.Data)
	if err != nil {
		return none, attest.Errorf(attest.ErrFormat, "SEV-SNP report: %w", err)
	}
	if len(q.Endorsements) == 0 {
		return none, attest.Errorf(attest.ErrFormat, "SEV-SNP report comes without the certificate of its key (VCEK or VLEK)")
	}
	e, err := parseEndorsement(q.Endorsements)
	if err != nil {
		return none, attest.Errorf(attest.ErrFormat, "SEV-SNP report: certificate of its key: %w", err)
	}
	expiry, err := v.checkChain(e, now)
	if err != nil {
		return none, err
	}
	if err := e.matches(r); err != nil {
		return none, attest.Errorf(attest.ErrSignature, "SEV-SNP report: %w", err)
	}
	digest := sha512.Sum384(r.signed)
	if !ecdsa.Verify(e.key, digest[:], new(big.Int).SetBytes(r.r), new(big.Int).SetBytes(r.s)) {
		return none, attest.Errorf(attest.ErrSignature, "signature of the SEV-SNP report is not valid")
	}
	return r.claims(e, expiry), nil
}

// checkChain checks that AMD has signed the certificate, and returns when the first one of the chain expires.
func (v *Verifier) checkChain(e *endorsement, now time.Time) (expiry time.Time, err error) {
	a, err := v.lines[e.line.name]()
	if err != nil {
		return expiry, attest.Errorf(attest.ErrSignature, "certificates of AMD for %s: %w", e.line.name, err)
	}
	chain, err := v.verified.Verify([]*x509.Certificate{e.certificate, a.signers[e.signer], a.root}, now)
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return expiry, attest.Errorf(attest.ErrFreshness, "SEV-SNP report: certificate of its key: %w", err)
	case err != nil:
		return expiry, attest.Errorf(attest.ErrSignature, "SEV-SNP report: the certificate of its key is not signed by AMD for %s: %w", e.line.name, err)
	}
	return attest.FirstExpiry(chain), nil
}

func (r *report) claims(e *endorsement, expiry time.Time) attest.PlatformClaims {
	c := attest.PlatformClaims{
		Platform: attest.SEVSNP, ReportData: r.data, TCB: attest.TCBNotApplicable, Debug: r.policy&policyDebug != 0, Expiry: expiry,
		Measurements: map[string][]byte{"measurement": r.measurement, "host_data": r.hostData, "id_key_digest": r.idKeyDigest},
		Versions:     map[string]uint64{"vmpl": uint64(r.vmpl), "guest_svn": uint64(r.guestSVN)},
		Conditions:   r.conditions(),
	}
	for name := range e.line.parts {
		c.Versions[name] = uint64(e.line.part(r.reported, name))
	}
	if e.signer == vcek { // the certificate names the chip, also where the report hides it
		c.HardwareID = string(attest.SEVSNP) + ":" + hex.EncodeToString(e.chip)
	} else if !zero(r.chipID) {
		c.HardwareID = string(attest.SEVSNP) + ":" + hex.EncodeToString(r.chipID)
	}
	return c
}

func (r *report) conditions() (all []string) {
	if r.policy&policySMT != 0 {
		all = append(all, SMT)
	}
	if r.policy&policyMigration != 0 {
		all = append(all, MigrationAgent)
	}
	if r.committed != r.current {
		all = append(all, ProvisionalFirmware)
	}
	return all
}
