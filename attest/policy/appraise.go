package policy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Verdict is the outcome of an appraisal. It is never nil.
type Verdict struct {
	Accepted   bool
	Identities []string        // that hold, sorted
	Refusals   []Refusal       // why each other identity does not hold
	Platform   attest.Platform // as the evidence names it; verified only where Facts is set
	Facts      *attest.Facts   // what was verified; nil if the evidence itself did not verify
	Err        error           // why not accepted, with its attest.Kind; nil if accepted
	At         time.Time
}

// Refusal says why an identity does not hold.
type Refusal struct {
	Identity string
	Err      *attest.Error
}

// Appraiser judges evidence by a policy. It is immutable and may be used by many goroutines.
type Appraiser struct {
	policy   *Policy
	registry *attest.Registry
}

// NewAppraiser returns an appraiser. The registry may have more drivers than the policy names: those are
// never consulted.
func NewAppraiser(p *Policy, r *attest.Registry) *Appraiser {
	return &Appraiser{policy: p, registry: r}
}

// Policy returns the policy.
func (a *Appraiser) Policy() *Policy { return a.policy }

// Appraise verifies encoded evidence of a connection against the binding computed from this side's own
// state, and judges it by the policy as of the time now.
func (a *Appraiser) Appraise(ctx context.Context, evidence []byte, want attest.Binding, now time.Time) *Verdict {
	return a.AppraiseFor(ctx, attest.PurposeConnection, evidence, want, now)
}

// AppraiseFor is Appraise for evidence that was made for another purpose than a connection.
func (a *Appraiser) AppraiseFor(ctx context.Context, purpose attest.Purpose, evidence []byte, want attest.Binding, now time.Time) *Verdict {
	v := &Verdict{At: now}
	e, err := attest.DecodeEvidence(evidence)
	if err != nil {
		return v.refuse(err)
	}
	v.Platform = e.Quote.Platform
	if err := a.consult(e.Quote.Platform); err != nil {
		return v.refuse(err)
	}
	facts, err := a.registry.Verify(ctx, e, purpose, want, now)
	if err != nil {
		return v.refuse(err)
	}
	judged := a.policy.Judge(facts)
	judged.At = now
	return judged
}

// Refused returns the verdict for evidence that never came to be appraised.
func Refused(err error, now time.Time) *Verdict {
	v := &Verdict{At: now}
	return v.refuse(err)
}

// consult refuses platforms that no identity names before their driver sees a byte.
func (a *Appraiser) consult(p attest.Platform) error {
	for _, id := range a.policy.identities {
		if slices.ContainsFunc(id.AnyOf, func(r Requirement) bool { return r.Platform == p }) {
			return nil
		}
	}
	if p.Simulated() {
		return attest.Errorf(attest.ErrSimulated, "the evidence comes from a simulated TEE, and no identity of the policy says \"simulated: allow\"")
	}
	return attest.Errorf(attest.ErrPlatform, "the evidence is of platform %q, which no identity of the policy names", p)
}

// Judge says which identities hold for verified facts.
func (p *Policy) Judge(f *attest.Facts) *Verdict {
	return p.judgeBy(f, func(id *Identity) *attest.Error { return id.judge(f) })
}

func (p *Policy) judgeBy(f *attest.Facts, judge func(*Identity) *attest.Error) *Verdict {
	v := &Verdict{Platform: f.Platform, Facts: f}
	if err := universal(f); err != nil {
		return v.refuse(err)
	}
	for i := range p.identities {
		id := &p.identities[i]
		if err := judge(id); err != nil {
			v.Refusals = append(v.Refusals, Refusal{Identity: id.Name, Err: err})
			continue
		}
		v.Identities = append(v.Identities, id.Name)
	}
	if len(v.Identities) > 0 {
		v.Accepted = true
		return v
	}
	return v.refuse(v.reason())
}

func (v *Verdict) refuse(err error) *Verdict {
	v.Accepted, v.Err = false, err
	return v
}

// reason joins the refusals of all identities into one error. Its kind is theirs if they agree.
func (v *Verdict) reason() error {
	if len(v.Refusals) == 0 {
		return attest.Errorf(attest.ErrPolicy, "the policy defines no identity")
	}
	if len(v.Refusals) == 1 {
		return v.Refusals[0].Err
	}
	kind := v.Refusals[0].Err.Kind
	var texts []string
	for _, r := range v.Refusals {
		if r.Err.Kind != kind {
			kind = attest.ErrPolicy
		}
		texts = append(texts, r.Err.Error())
	}
	return attest.Errorf(kind, "no identity of the policy holds: %s", strings.Join(texts, "; "))
}

// universal holds whatever the file says.
func universal(f *attest.Facts) error {
	if f.Debug {
		return attest.Errorf(attest.ErrDebug, "the TEE runs in debug mode: its host can read everything in it")
	}
	if f.TCB == attest.TCBRevoked || !f.TCB.Known() {
		return attest.Errorf(attest.ErrTCB, "TCB status %q is never accepted", f.TCB)
	}
	return nil
}

func (id *Identity) judge(f *attest.Facts) *attest.Error {
	if f.Simulated() && !id.Simulated {
		return attest.Errorf(attest.ErrSimulated, "the TEE is simulated, and identity %q does not say \"simulated: allow\"", id.Name)
	}
	if err := id.judgePlatform(f); err != nil {
		return err
	}
	for _, c := range []struct {
		kind     attest.Kind
		what     string
		have     attest.Digest
		accepted []attest.Digest
	}{
		{attest.ErrModule, "module", f.Module, id.Modules},
		{attest.ErrConfig, "configuration", f.Config, id.Configs},
		{attest.ErrRuntime, "runtime", f.Runtime, id.Runtimes},
	} {
		if len(c.accepted) > 0 && !slices.Contains(c.accepted, c.have) {
			return attest.Errorf(c.kind, "%s %s is not one of the %d accepted by identity %q", c.what, c.have.Short(), len(c.accepted), id.Name)
		}
	}
	if len(id.Instances) > 0 && !slices.Contains(id.Instances, f.HardwareID) {
		return attest.Errorf(attest.ErrInstance, "hardware %q is not one of the %d enrolled for identity %q", f.HardwareID, len(id.Instances), id.Name)
	}
	return nil
}

// judgePlatform wants one entry of any_of to hold; if none does, the reason is that of the entry that names
// the platform.
func (id *Identity) judgePlatform(f *attest.Facts) *attest.Error {
	var reason *attest.Error
	var named []string
	for _, r := range id.AnyOf {
		if r.Platform != f.Platform {
			named = append(named, string(r.Platform))
			continue
		}
		if reason = r.judge(id.Name, &f.PlatformClaims); reason == nil {
			return nil
		}
	}
	if reason != nil {
		return reason
	}
	return attest.Errorf(attest.ErrPlatform, "platform %q is not one of those accepted by identity %q: %s", f.Platform, id.Name, strings.Join(slices.Compact(named), ", "))
}

func (r *Requirement) judge(identity string, c *attest.PlatformClaims) *attest.Error {
	for _, key := range slices.Sorted(maps.Keys(r.Want)) {
		spec := schema[r.Platform][key]
		if spec.form == formStatus {
			continue
		}
		if unmet := spec.unmet(key, r.Want[key], c); unmet != "" {
			return attest.Errorf(attest.ErrPlatform, "%s %s is not what identity %q accepts", r.Platform, unmet, identity)
		}
	}
	reason := r.tcbReason(c)
	if reason == "" {
		reason = r.conditionReason(c)
	}
	if reason != "" {
		return attest.Errorf(attest.ErrTCB, "%s, which identity %q does not accept", reason, identity)
	}
	return nil
}

// unmet says what of a key the claims do not fulfil, such as "pcrs 4, 14", "" if they fulfil it.
func (s *keySpec) unmet(key string, values []string, c *attest.PlatformClaims) string {
	if s.form != formMap {
		if slices.ContainsFunc(values, func(v string) bool { return s.holds(key, v, c) }) {
			return ""
		}
		return key
	}
	var names []string
	for _, v := range values {
		name, value, _ := strings.Cut(v, "=")
		if !s.holds(name, value, c) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return key + " " + strings.Join(names, ", ")
}

// tcbReason says why TCB status and advisories are not acceptable, "" if they are. Without a list the
// status must be UpToDate, or SWHardeningNeeded if advisories are named, since some processors never reach
// more. Below UpToDate every advisory that applies must be named.
func (r *Requirement) tcbReason(c *attest.PlatformClaims) string {
	_, graded := schema[r.Platform]["tcb"]
	graded = graded && r.Platform != attest.Azure // SEV-SNP, which is not graded, may be behind it; TDX always has a status
	switch {
	case c.TCB == attest.TCBUpToDate,
		c.TCB == attest.TCBNotApplicable && !graded,
		c.TCB == attest.TCBSimulated && c.Platform.Simulated():
		return ""
	}
	allowed, advisories := r.Want["tcb"], r.Want["advisories"]
	if len(allowed) == 0 && len(advisories) > 0 {
		allowed = []string{string(attest.TCBSWHardeningNeeded)}
	}
	if !slices.Contains(allowed, string(c.TCB)) {
		return fmt.Sprintf("TCB status is %s", c.TCB)
	}
	for _, a := range c.Advisories {
		if !slices.Contains(advisories, a) {
			return fmt.Sprintf("TCB status is %s with advisory %s", c.TCB, shorten(a))
		}
	}
	return ""
}

// conditionReason names a condition that is not allowed, "" if there is none.
func (r *Requirement) conditionReason(c *attest.PlatformClaims) string {
	for _, condition := range c.Conditions {
		if condition == attest.ConditionServiceTD {
			if td := hex.EncodeToString(c.Measurements["mrservicetd"]); !slices.Contains(r.Want["service_tds"], td) {
				return fmt.Sprintf("the TD is bound to service TD %s (service_tds)", td)
			}
			continue
		}
		if !slices.Contains(r.Want["allow"], condition) {
			return fmt.Sprintf("the platform is in the condition %q", shorten(condition))
		}
	}
	return ""
}

// KindOf returns the kind of the failure that err is, 0 if it is of none.
func KindOf(err error) attest.Kind {
	var e *attest.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return 0
}
