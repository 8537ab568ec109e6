// Package examine finds out what there is to know about evidence in a file, and puts it into words and JSON.
package examine

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/azure"
	"github.com/vouchmq/vouchmq/attest/cca"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/detect"
	"github.com/vouchmq/vouchmq/attest/nitro"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
	"github.com/vouchmq/vouchmq/attest/sgx"
	"github.com/vouchmq/vouchmq/attest/tdx"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/client"
)

// Options say how to look at evidence.
type Options struct {
	Store        *collateral.Store // nil: what comes with the evidence
	Endorsements []byte            // in place of those that come with a bare quote; nil if none
	Parts        Parts             // that belong to a TPM quote or an HCL report
	ReportData   []byte            // that is expected; nil: not compared
	Now          time.Time
}

// Result is what was found out. It is what `vouchmq verify --json` prints.
type Result struct {
	Format     string         `json:"format"`
	Wrapping   []string       `json:"wrapping,omitempty"`
	Size       int            `json:"size"`
	Platform   string         `json:"platform"`
	At         time.Time      `json:"at"`
	Fields     []attest.Field `json:"fields,omitempty"`
	Checks     []Check        `json:"checks"`
	Genuine    bool           `json:"genuine"` // signed by the platform's maker, and everything needed to tell was there
	Error      string         `json:"error,omitempty"`
	Kind       string         `json:"kind,omitempty"` // of the error, in a few fixed words
	TCB        string         `json:"tcb,omitempty"`
	TCBMeaning string         `json:"tcb_meaning,omitempty"`
	Advisories []string       `json:"advisories,omitempty"`
	Conditions []string       `json:"conditions,omitempty"`
	Debug      bool           `json:"debug"`
	Simulated  bool           `json:"simulated,omitempty"`
	Hardware   string         `json:"hardware,omitempty"`
	Expires    *time.Time     `json:"expires,omitempty"`
	ReportData string         `json:"report_data,omitempty"`
	Binding    Binding        `json:"binding"`
	Verdict    *Verdict       `json:"verdict,omitempty"` // by a policy

	Err       error           `json:"-"` // why it is not genuine, or not bound as was asked
	Facts     *attest.Unbound `json:"-"` // nil if it is not genuine
	judge     *policy.Verdict
	loose     *loose
	saysDebug bool  // verified or not
	failure   error // of a check, that says more than the want of collateral
}

// Check is one check and its outcome.
type Check struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
}

// Binding says what the report data was compared with.
type Binding struct {
	Checked bool   `json:"checked"`
	Text    string `json:"text"`
}

// Verdict is that of a policy.
type Verdict struct {
	Policy     string            `json:"policy"` // digest
	Accepted   bool              `json:"accepted"`
	Identities []string          `json:"identities,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Refusals   map[string]string `json:"refusals,omitempty"`
	Partial    bool              `json:"partial"` // a bare quote tells of no module: platform and hardware were judged, nothing else
}

// Examine looks at evidence. The error is about bytes that are no evidence; whether evidence is genuine is in the result.
func Examine(ctx context.Context, data []byte, o Options) (*Result, error) {
	found, err := detect.Detect(data)
	if err != nil {
		return nil, err
	}
	if found.Evidence == nil && o.Endorsements != nil {
		found.Quote.Endorsements = o.Endorsements
	}
	r := &Result{Format: found.Format, Wrapping: found.Wrapping, Size: len(found.Quote.Data), Platform: string(found.Quote.Platform), At: o.Now.UTC()}
	r.Simulated = found.Quote.Platform.Simulated()
	r.gather(found, o)
	if r.Err == nil {
		r.Err = lackingKey(found)
	}
	r.describe(found, o)
	r.verify(ctx, found, o)
	r.bind(found, o)
	if r.Err != nil {
		r.Genuine, r.Error = false, r.Err.Error()
		if kind := policy.KindOf(r.Err); kind != 0 {
			r.Kind = kind.Error()
		}
	}
	return r, nil
}

// describe reads the fields, whether or not they are true.
func (r *Result) describe(found *detect.Found, o Options) {
	if c := found.RATLS; c != nil && c.Certificate != nil {
		r.add("certificate of", fmt.Sprintf("%q, valid %s to %s", c.Certificate.Subject.String(), stamp(c.Certificate.NotBefore), stamp(c.Certificate.NotAfter)))
	}
	if found.Evidence != nil {
		r.describeClaims(found.Evidence)
	}
	q := found.Quote
	var fields []attest.Field
	var err error
	switch q.Platform {
	case attest.TPM, attest.Azure:
		fields, err = r.describeTPM(found, o)
	case attest.SGX:
		fields = r.intel(sgx.NewVerifier(o.Store).Appraise(q, o.Now))
	case attest.TDX:
		fields = r.intel(tdx.NewVerifier(o.Store).Appraise(q, o.Now))
	case attest.SEVSNP:
		fields, err = sevsnp.Describe(q)
	case attest.Nitro:
		fields, err = nitro.Describe(q)
	case attest.CCA:
		fields, err = cca.Describe(q)
	}
	if err != nil {
		return // the driver will say it
	}
	for _, f := range fields {
		if f.Name == "debug" && f.Value == "true" {
			f.Value, r.saysDebug = "DEBUG MODE: THE HOST CAN READ IT", true
		}
		r.Fields = append(r.Fields, f)
	}
}

// describeTPM reads the fields of a TPM, and of the hardware behind Azure's.
func (r *Result) describeTPM(found *detect.Found, o Options) (fields []attest.Field, err error) {
	switch {
	case found.Parts != nil:
		fields, err = describeParts(found)
	case found.Quote.Platform == attest.TPM:
		fields, err = tpm.Describe(found.Quote)
	default:
		fields, err = azure.Describe(found.Quote)
	}
	if td := tdQuote(found); err == nil && td != nil {
		report := tdx.NewVerifier(o.Store).Appraise(attest.Quote{Platform: attest.TDX, Data: td, Endorsements: found.Quote.Endorsements}, o.Now)
		fields = append(fields, r.intel(report)...)
	}
	return fields, err
}

// intel takes over fields and checks of a report.
func (r *Result) intel(report *sgx.Report) []attest.Field {
	for _, c := range report.Checks {
		check := Check{Name: c.Name, Outcome: string(c.Outcome)}
		if c.Err != nil {
			check.Error = c.Err.Error()
			if r.failure == nil && !errors.Is(c.Err, collateral.FaultNoCollateral) {
				r.failure = c.Err
			}
		}
		r.Checks = append(r.Checks, check)
	}
	return slices.DeleteFunc(report.Fields(), func(f attest.Field) bool { return slices.Contains(said, f.Name) })
}

// said are fields of a report that stand in the result already.
var said = []string{"TCB status", "advisories", "expires"}

func (r *Result) describeClaims(e *attest.Evidence) {
	c, err := attest.DecodeClaims(e.Claims)
	if err != nil {
		return
	}
	r.add("module", c.Module.String())
	r.add("config", c.Config.String())
	r.add("runtime", c.Runtime.String())
	r.add("instance", c.Instance)
	if c.Phase == 0 {
		r.add("speaks for", fmt.Sprintf("keys that a certificate for service %q is asked for", c.Service))
	} else {
		r.add("speaks for", fmt.Sprintf("the %v of a connection to service %q", c.Role, c.Service))
	}
	r.add("nonce", hex.EncodeToString(c.Nonce[:]))
	r.add("says it was made at", stamp(time.Unix(c.IssuedAt, 0)))
	r.add("covered by", fmt.Sprintf("a quote for %d claims-sets, of which this is number %d", max(e.Proof.N, 1), e.Proof.I+1))
}

func (r *Result) add(name, value string) {
	if value != "" {
		r.Fields = append(r.Fields, attest.Field{Name: name, Value: value})
	}
}

// verify has the driver verify the quote.
func (r *Result) verify(ctx context.Context, found *detect.Found, o Options) {
	if r.Err == nil { // all parts are there
		r.Facts, r.Err = r.ask(ctx, found, o)
	}
	r.addCheck(found.Quote.Platform)
	if r.Err != nil {
		if r.failure != nil {
			r.Err = r.failure
		}
		return
	}
	r.Genuine = true
	c := r.Facts.PlatformClaims
	r.TCB, r.TCBMeaning, r.Advisories, r.Conditions = string(c.TCB), tcbMeaning[c.TCB], c.Advisories, c.Conditions
	r.Debug, r.Hardware, r.ReportData = c.Debug, c.HardwareID, hex.EncodeToString(c.ReportData)
	if !c.Expiry.IsZero() {
		expires := c.Expiry.UTC()
		r.Expires = &expires
	}
	if found.Evidence != nil || len(r.Fields) == 0 {
		r.describeMeasurements(&c)
	}
}

// ask has a driver verify the evidence.
func (r *Result) ask(ctx context.Context, found *detect.Found, o Options) (*attest.Unbound, error) {
	registry := client.DriversWith(o.Store)
	switch {
	case found.Evidence != nil:
		return registry.ExamineEvidenceUnbound(ctx, found.Evidence, o.Now)
	case r.loose == nil:
		return registry.ExamineUnbound(ctx, found.Quote, o.Now)
	}
	claims, err := r.loose.verify(ctx)
	if err == nil && claims.Expired(o.Now) {
		err = attest.Errorf(attest.ErrFreshness, "evidence or its collateral expired at %s", stamp(claims.Expiry))
	}
	if err != nil {
		return nil, err
	}
	return &attest.Unbound{PlatformClaims: claims}, nil
}

// addCheck adds the check of a driver that has no list of its checks, or for Azure of what comes after those of Intel.
func (r *Result) addCheck(p attest.Platform) {
	if len(r.Checks) > 0 && p != attest.Azure {
		return
	}
	c := Check{Name: checkNames[p], Outcome: "passed"}
	if r.loose != nil {
		c.Name = r.loose.check
	}
	before := slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Error != "" })
	switch {
	case before || errors.Is(r.Err, attest.ErrMissing):
		c.Outcome = "not run"
	case r.Err != nil:
		c.Outcome, c.Error = "failed", r.Err.Error()
	}
	r.Checks = append(r.Checks, c)
}

// bind compares the report data with whatever there is to compare it with.
func (r *Result) bind(found *detect.Found, o Options) {
	if r.Facts == nil {
		r.Binding.Text = "NOT CHECKED: the evidence was not verified"
		return
	}
	data := r.Facts.ReportData
	switch {
	case o.ReportData != nil:
		r.Binding.Checked = true
		r.Binding.Text = "the report data is what was expected (--report-data)"
		if !samePadded(data, o.ReportData) {
			r.Binding.Text = "NOT BOUND: the report data is not what was expected (--report-data)"
			r.Err = attest.Errorf(attest.ErrBinding, "the report data is not %s, as was expected: the evidence was made for something else", hex.EncodeToString(o.ReportData))
		}
	case r.loose != nil && found.Quote.Platform == attest.Azure:
		r.Binding.Text = "the hardware's report data is the digest of the runtime data, as it is to be; NOT CHECKED: anything else, for lack of a quote"
	case len(bytes.Trim(data, "\x00")) == 0:
		r.Binding.Text = "NONE: the report data is all zero, so this is bound to nothing"
	case found.RATLS != nil && found.RATLS.Certificate != nil:
		r.Binding = Binding{Checked: true, Text: "the report data names the key of the certificate; NOT CHECKED: who has that key now"}
		if err := found.RATLS.Bound(data); err != nil {
			r.Binding.Text, r.Err = "NOT BOUND: "+err.Error(), err
		}
	case found.Evidence != nil:
		r.Binding.Text = "the quote signs these claims; NOT CHECKED: whether they are about a connection of yours (--report-data)"
	default:
		r.Binding.Text = "NOT CHECKED: nobody said what the report data should be (--report-data)"
	}
}

// samePadded compares with what was given, which may lack zeros at the end.
func samePadded(data, want []byte) bool {
	return len(want) <= len(data) && bytes.Equal(data[:len(want)], want) && len(bytes.Trim(data[len(want):], "\x00")) == 0
}

// Judge judges the result by a policy. Of a bare quote platform and hardware are judged, since it tells of nothing more.
func (r *Result) Judge(p *policy.Policy) {
	v := &Verdict{Policy: p.Digest().String(), Partial: r.Facts == nil || r.Facts.Claims == nil}
	r.Verdict = v
	switch {
	case r.Err != nil:
		r.judge = policy.Refused(r.Err, r.At)
	case v.Partial:
		r.judge = p.JudgePlatform(&r.Facts.PlatformClaims)
	default:
		r.judge = p.Judge(r.Facts.Facts())
	}
	v.Accepted, v.Identities = r.judge.Accepted, r.judge.Identities
	if r.judge.Err != nil {
		v.Reason = r.judge.Err.Error()
	}
	for _, refusal := range r.judge.Refusals {
		if v.Refusals == nil {
			v.Refusals = map[string]string{}
		}
		v.Refusals[refusal.Identity] = refusal.Err.Error()
	}
}

// Refusal returns why the evidence is not accepted, nil if it is. Without a policy genuine evidence is, unless no policy could accept it.
func (r *Result) Refusal() error {
	switch {
	case r.judge != nil:
		return r.judge.Err
	case r.Err != nil:
		return r.Err
	case r.Debug:
		return attest.Errorf(attest.ErrDebug, "the TEE runs in debug mode: its host can read everything in it")
	case r.Facts.TCB == attest.TCBRevoked:
		return attest.Errorf(attest.ErrTCB, "TCB status %q is never accepted", r.TCB)
	}
	return nil
}

// lacksCollateral says whether nothing is wrong but that there is no collateral.
func (r *Result) lacksCollateral() bool {
	failed := 0
	for _, c := range r.Checks {
		if c.Error != "" {
			failed++
		}
	}
	return failed == 1 && errors.Is(r.Err, collateral.FaultNoCollateral)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
