package dcap

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"log/slog"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Verifier verifies the quotes of one TEE. It is immutable; many goroutines may use it at once. It is an [attest.Verifier].
type Verifier struct {
	TEE  TEE
	Root Root
	// Source is the verifier's own collateral. Where it has some for a platform, that is used, and what the
	// evidence brings is not looked at. nil: there is only what the evidence brings.
	Source Source

	minEvaluation uint32
	withoutCRLs   bool
}

// WithMinEvaluation returns a verifier that refuses collateral of a lower tcbEvaluationDataNumber. What the evidence
// brings must not fall behind what the source has seen either way.
func (v *Verifier) WithMinEvaluation(number uint32) *Verifier {
	w := *v
	w.minEvaluation = number
	return &w
}

// InsecureWithoutCRLs returns a verifier that accepts certificates without asking whether they have been revoked: INSECURE, for
// who has keys of a broken processor can make any evidence. The log is told.
func (v *Verifier) InsecureWithoutCRLs(log *slog.Logger) *Verifier {
	log.Warn("INSECURE: certificates of processors are accepted without asking whether Intel has revoked them", "tee", v.TEE.String())
	w := *v
	w.withoutCRLs = true
	return &w
}

// Platform returns attest.SGX or attest.TDX.
func (v *Verifier) Platform() attest.Platform { return v.TEE.Platform() }

// Verify verifies a quote as of the time now and returns what it says.
func (v *Verifier) Verify(_ context.Context, q attest.Quote, _ attest.ReportData, now time.Time) (attest.PlatformClaims, error) {
	return v.Appraise(q, now).Claims()
}

// Report is all that was found out about a quote.
type Report struct {
	Quote      *Quote      // nil if it could not be read
	PCK        *PCK        // nil if its chain does not hold
	Collateral *Collateral // nil if there is none
	Origin     Origin      // of the collateral
	CRLs       bool        // revocation was checked
	Checks     []Check     // in order
	Err        error       // of the first check that failed; nil: the quote is genuine

	Platform   *Level // that platform and TD together reach
	Module     *Level // that the TDX module reaches; nil where the platform's level judges it
	QE         *Level // that the quoting enclave reaches
	TCB        attest.TCBStatus
	Advisories []string
	Expiry     time.Time
}

// Origin says where collateral came from.
type Origin string

// The origins.
const (
	OriginNone     Origin = "none"
	OriginStore    Origin = "own store"
	OriginEvidence Origin = "evidence"
)

// Check is one check and its outcome.
type Check struct {
	Name    string
	Outcome Outcome
	Err     error // if it failed
}

// Outcome is that of a check.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // for want of collateral, by the verifier's options, or since it does not apply
	NotRun  Outcome = "not run" // a check before it failed
)

// appraisal is a quote on its way through the checks.
type appraisal struct {
	*Verifier
	quote  attest.Quote
	now    time.Time
	report *Report
	sgx    *Level // that the platform without the TD reaches
	module *moduleIdentity
}

// errSkip ends a check that does not apply.
var errSkip = errors.New("skipped")

// checks are in the order of Intel's quote verification library (QVL), but for the signatures of collateral, which are
// verified when it is opened. What that library leaves to its callers is marked with a plus.
var checks = []struct {
	name       string
	collateral bool // needs it
	run        func(*appraisal) error
}{
	{"format of the quote", false, (*appraisal).parse},
	{"PCK certificate chain", false, (*appraisal).checkPCK},
	{"validity of the PCK certificate chain", false, (*appraisal).checkPCKTime},
	{"collateral", false, (*appraisal).findCollateral},
	{"root revocation list", true, (*appraisal).checkRootCRL},
	{"PCK revocation list", true, (*appraisal).checkPCKCRL},
	{"TCB info", true, (*appraisal).checkTCBInfo},
	{"QE identity", true, (*appraisal).checkQEIdentity},
	{"evaluation number", true, (*appraisal).checkEvaluation}, // +
	{"platform of the TCB info", true, (*appraisal).checkPlatform},
	{"TDX module", true, (*appraisal).checkModule},
	{"signature of the QE report", false, (*appraisal).checkQESignature},
	{"attestation key", false, (*appraisal).checkKey},
	{"quoting enclave", true, (*appraisal).checkQE},
	{"signature of the quote", false, (*appraisal).checkSignature},
	{"TCB level", true, (*appraisal).checkTCB},
}

// Appraise verifies a quote as of the time now. Without collateral it goes on as far as possible, and fails.
// The report data, debug mode and whether the TCB status will do are for the caller to judge.
func (v *Verifier) Appraise(q attest.Quote, now time.Time) *Report {
	a := &appraisal{Verifier: v, quote: q, now: now, report: &Report{Origin: OriginNone, Checks: make([]Check, 0, len(checks))}}
	for _, c := range checks {
		check := Check{Name: c.name, Outcome: NotRun}
		switch {
		case a.stopped():
		case c.collateral && a.report.Collateral == nil:
			check.Outcome = Skipped
		default:
			check.Outcome, check.Err = outcome(c.run(a))
		}
		if check.Err != nil && a.report.Err == nil {
			a.report.Err = check.Err
		}
		a.report.Checks = append(a.report.Checks, check)
	}
	return a.report
}

func outcome(err error) (Outcome, error) {
	switch err {
	case nil:
		return Passed, nil
	case errSkip:
		return Skipped, nil
	}
	return Failed, err
}

// stopped says whether a failure makes the remaining checks pointless. Want of collateral does not.
func (a *appraisal) stopped() bool {
	return a.report.Err != nil && (a.report.Collateral != nil || !errors.Is(a.report.Err, FaultNoCollateral))
}

func (a *appraisal) parse() error {
	q, err := ParseQuote(a.quote.Data)
	if err != nil {
		return err
	}
	if q.TEE != a.TEE {
		return fail(FaultUnsupported, "quote is of %v, not of %v", q.TEE, a.TEE)
	}
	a.report.Quote = q
	return nil
}

func (a *appraisal) checkPCK() (err error) {
	a.report.PCK, err = verifyPCK(a.report.Quote.PCKChain, a.Root)
	return err
}

func (a *appraisal) checkPCKTime() error {
	a.report.Expiry = a.report.PCK.chain.expiry()
	return a.report.PCK.chain.checkTime(a.now)
}

// findCollateral takes the verifier's own, or else what the evidence brings.
func (a *appraisal) findCollateral() error {
	p := a.report.PCK
	if a.Source != nil {
		c, err := a.Source.Collateral(Need{a.TEE, p.FMSPC, p.CA})
		if err != nil {
			return err
		}
		if c != nil {
			a.use(c, OriginStore)
			return nil
		}
	}
	if len(a.quote.Endorsements) == 0 {
		return fail(FaultNoCollateral, "there is no collateral for %v platforms of FMSPC %v (%s CA), neither here nor in the evidence: fetch it", a.TEE, p.FMSPC, p.CA)
	}
	d, err := ParseDocuments(a.quote.Endorsements)
	if err != nil {
		return err
	}
	c, err := d.Open(a.Root)
	if err != nil {
		return err
	}
	a.use(c, OriginEvidence)
	return nil
}

func (a *appraisal) use(c *Collateral, origin Origin) {
	a.report.Collateral, a.report.Origin = c, origin
	a.report.Expiry = earlier(a.report.Expiry, c.expiry(!a.withoutCRLs))
}

func (a *appraisal) checkRootCRL() error {
	if a.withoutCRLs {
		return errSkip
	}
	c := a.report.Collateral
	if c.RootCRL == nil {
		return fail(FaultNoCollateral, "the collateral lacks the root's revocation list")
	}
	if err := c.RootCRL.checkTime(a.now); err != nil {
		return err
	}
	for _, issued := range []chain{a.report.PCK.chain[1:], c.TCBInfo.issuer, c.QEIdentity.issuer} {
		if err := c.RootCRL.check(issued.leaf()); err != nil {
			return err
		}
	}
	return nil
}

func (a *appraisal) checkPCKCRL() error {
	if a.withoutCRLs {
		return errSkip
	}
	list, pck := a.report.Collateral.PCKCRL, a.report.PCK.chain
	if list == nil {
		return fail(FaultNoCollateral, "the collateral lacks the revocation list of the %s CA", a.report.PCK.CA)
	}
	// The list's issuer must be the very authority that issued the certificate, not one of its name.
	if issuer := list.issuer.leaf(); !bytes.Equal(issuer.RawSubject, pck[1].RawSubject) || !bytes.Equal(issuer.RawSubjectPublicKeyInfo, pck[1].RawSubjectPublicKeyInfo) {
		return fail(FaultCollateralMismatch, "revocation list is of the %s CA, the PCK certificate of the %s CA", list.CA, a.report.PCK.CA)
	}
	if err := list.checkTime(a.now); err != nil {
		return err
	}
	if err := list.check(pck.leaf()); err != nil {
		return err
	}
	a.report.CRLs = true
	return nil
}

func (a *appraisal) checkTCBInfo() error {
	t := a.report.Collateral.TCBInfo
	if err := t.checkKind(a.TEE.String(), tcbInfoVersion); err != nil {
		return err
	}
	return t.checkTime(a.now)
}

func (a *appraisal) checkQEIdentity() error {
	q := a.report.Collateral.QEIdentity
	if err := q.checkKind(qeID(a.TEE), qeIdentityVersion); err != nil {
		return err
	}
	return q.checkTime(a.now)
}

func (a *appraisal) checkEvaluation() error {
	least := a.minEvaluation
	if a.Source != nil && a.report.Origin == OriginEvidence {
		least = max(least, a.Source.MinEvaluation(a.TEE))
	}
	c := a.report.Collateral
	for _, d := range []*document{&c.TCBInfo.document, &c.QEIdentity.document} {
		if d.Evaluation < least {
			return fail(FaultRollback, "%s is of evaluation %d, and %d is asked for or has been seen: somebody offers older statements, or they need to be fetched anew", d.name, d.Evaluation, least)
		}
	}
	return nil
}

func (a *appraisal) checkPlatform() error {
	return a.report.Collateral.TCBInfo.checkPlatform(a.TEE, a.report.PCK)
}

func (a *appraisal) checkModule() (err error) {
	if a.TEE != TDX {
		return errSkip
	}
	a.module, err = a.report.Collateral.TCBInfo.checkModule(a.report.Quote.TD)
	return err
}

func (a *appraisal) checkQESignature() error {
	q := a.report.Quote
	if !verifyP256(a.report.PCK.chain.key(), q.qeReport, q.QESignature[:]) {
		return fail(FaultQESignature, "the quoting enclave's report is not signed by the PCK")
	}
	return nil
}

// checkKey wants the quoting enclave to vouch for the attestation key; the second half of its report data, which
// means nothing, must be zero (+).
func (a *appraisal) checkKey() error {
	q := a.report.Quote
	digest := sha256.New()
	digest.Write(q.Key[:])
	digest.Write(q.QEAuthData)
	if want := [64]byte(append(digest.Sum(nil), make([]byte, 32)...)); q.QEReport.ReportData != want {
		return fail(FaultQEBinding, "the quoting enclave vouches for another attestation key")
	}
	return nil
}

func (a *appraisal) checkQE() error {
	r, identity := &a.report.Quote.QEReport, a.report.Collateral.QEIdentity
	if err := identity.check(r); err != nil {
		return err
	}
	if a.report.QE = levelOf(identity.Levels, r.ISVSVN); a.report.QE == nil {
		return fail(FaultTCBLevel, "quoting enclave has ISVSVN %d, lower than any that Intel knows", r.ISVSVN)
	}
	return nil
}

func (a *appraisal) checkSignature() error {
	q := a.report.Quote
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.Key[:]...))
	if err != nil {
		return fail(FaultFormat, "attestation key is not a point of P-256")
	}
	if !verifyP256(key, q.signed, q.Signature[:]) {
		return fail(FaultQuoteSignature, "the quote is not signed by its attestation key")
	}
	return nil
}

// checkTCB finds the levels and lets their statuses converge: module first, then a relaunch that would help, then
// the quoting enclave.
func (a *appraisal) checkTCB() error {
	r, t := a.report, a.report.Collateral.TCBInfo
	if a.sgx, r.Platform = t.platformLevels(r.PCK, r.Quote.TD); r.Platform == nil {
		return fail(FaultTCBLevel, "no TCB level matches the platform: its SVNs are lower than any that Intel knows for FMSPC %v", t.FMSPC)
	}
	status := r.Platform.Status
	if r.Quote.TD != nil {
		var err error
		if status, err = a.convergeModule(status); err != nil {
			return err
		}
	}
	r.TCB = converge(status, r.QE.Status)
	r.Advisories = advisories(r.Platform, r.Module, r.QE)
	return nil
}

func (a *appraisal) convergeModule(status attest.TCBStatus) (attest.TCBStatus, error) {
	td, module := a.report.Quote.TD, attest.TCBUpToDate
	if td.TEETCBSVN[1] > 0 {
		l := levelOf(a.module.Levels, uint16(td.TEETCBSVN[0]))
		if l == nil {
			return "", fail(FaultTCBLevel, "TDX module has ISVSVN %d, lower than any that Intel knows", td.TEETCBSVN[0])
		}
		a.report.Module, module = l, l.Status
	}
	status = converge(status, module)
	return a.report.Collateral.TCBInfo.relaunch(td, a.sgx.Status, status, module, a.report.QE.Status)
}
