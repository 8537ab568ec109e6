package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Explain says in plain words whom the policy accepts and what they may do.
func (p *Policy) Explain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "policy %s\n", p.Digest())
	for _, id := range p.identities {
		id.explain(&b)
	}
	for i, r := range p.rules {
		r.explain(&b, i+1)
	}
	b.WriteString("whoever matches no rule may neither publish nor subscribe\n")
	return b.String()
}

func (id *Identity) explain(b *strings.Builder) {
	fmt.Fprintf(b, "identity %q holds for a program whose\n", id.Name)
	explainDigests(b, "module", id.Modules)
	explainDigests(b, "configuration", id.Configs)
	explainDigests(b, "runtime", id.Runtimes)
	b.WriteString("  platform is one of\n")
	for _, r := range id.AnyOf {
		fmt.Fprintf(b, "    %s", r)
		if r.Platform.Simulated() {
			b.WriteString("  (SIMULATED: PROTECTS NOTHING)")
		}
		b.WriteString("\n")
		for _, remark := range r.remarks() {
			fmt.Fprintf(b, "      note: %s\n", remark)
		}
	}
	if len(id.Instances) > 0 {
		fmt.Fprintf(b, "  hardware is one of %s\n", strings.Join(id.Instances, ", "))
	}
}

// remarks say what an entry leaves open that its writer may not have meant to.
func (r *Requirement) remarks() (all []string) {
	names := func(key string) bool { return len(r.Want[key]) > 0 }
	note := func(open bool, text string) {
		if open {
			all = append(all, text)
		}
	}
	switch r.Platform {
	case attest.SGX:
		note(!names("mrenclave") && !names("isv_prod_id"), "any enclave of that signer will do: isv_prod_id would tell them apart")
		note(!names("mrenclave") && !names("min_isv_svn"), "any version of the enclave will do: min_isv_svn would keep old ones out")
	case attest.TDX:
		note(!names("rtmr1") || !names("rtmr2"), "whatever boots under that firmware may say that it is the module: rtmr1 and rtmr2 would tell kernel, command line and initial RAM disk")
	case attest.SEVSNP:
		note(!names("min_tcb"), "firmware of any age will do: min_tcb would keep old versions out")
	case attest.TPM, attest.Azure:
		note(!names("pcrs"), "whatever boots on that machine may say that it is the module: pcrs would tell what did")
	}
	note(slices.ContainsFunc(r.Want["tcb"], belowHardening), "platforms will do for which Intel knows of weaknesses that are not mended: see tcb")
	return all
}

// belowHardening reports whether a TCB status is below what the best-kept processors reach.
func belowHardening(status string) bool {
	return status != string(attest.TCBUpToDate) && status != string(attest.TCBSWHardeningNeeded)
}

func explainDigests(b *strings.Builder, what string, digests []attest.Digest) {
	if len(digests) == 0 {
		fmt.Fprintf(b, "  %s is any\n", what)
		return
	}
	fmt.Fprintf(b, "  %s is one of\n", what)
	for _, d := range digests {
		fmt.Fprintf(b, "    %s\n", d)
	}
}

func (r *Rule) explain(b *strings.Builder, n int) {
	var who []string
	for _, w := range r.Who {
		who = append(who, w.String())
	}
	fmt.Fprintf(b, "rule %d: whoever is %s\n", n, strings.Join(who, "; or "))
	explainFilters(b, "publish", r.Publish)
	if r.Provenance {
		b.WriteString("    and subscribers are told the attested identity of who has published it\n")
	}
	explainFilters(b, "subscribe", r.Subscribe)
}

func explainFilters(b *strings.Builder, what string, filters []string) {
	if len(filters) == 0 {
		fmt.Fprintf(b, "  may not %s\n", what)
		return
	}
	fmt.Fprintf(b, "  may %s %s\n", what, strings.Join(filters, ", "))
}

// Explain says in plain words what was verified and what was decided, in a few lines.
func (v *Verdict) Explain() string {
	var b strings.Builder
	if v.Accepted {
		fmt.Fprintf(&b, "ACCEPTED as %s\n", strings.Join(v.Identities, ", "))
	} else {
		fmt.Fprintf(&b, "REFUSED: %v\n", v.Err)
	}
	if v.Facts == nil {
		if v.Platform != "" {
			fmt.Fprintf(&b, "platform   %s (as it says itself, not verified)\n", v.Platform)
		}
		return b.String()
	}
	v.explainFacts(&b)
	return b.String()
}

func (v *Verdict) explainFacts(b *strings.Builder) {
	f := v.Facts
	note := ""
	if f.Simulated() {
		note = "  (SIMULATED: PROTECTS NOTHING)"
	}
	for _, line := range []struct{ label, text string }{
		{"platform", string(f.Platform) + note},
		{"TCB status", strings.Join(append([]string{string(f.TCB)}, printable(f.Advisories)...), ", ")},
		{"module", f.Module.String()},
		{"config", f.Config.String()},
		{"runtime", f.Runtime.String()},
		{"instance", f.Instance},
		{"hardware", f.HardwareID},
		{"expires", expiry(f.Expiry)},
	} {
		if line.text != "" {
			fmt.Fprintf(b, "%-10s %s\n", line.label, line.text)
		}
	}
	for _, r := range v.Refusals {
		fmt.Fprintf(b, "not %q: %v\n", r.Identity, r.Err)
	}
}

// printable keeps texts of quotes from driving a terminal.
func printable(texts []string) []string {
	return slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return !validText(s) })
}

func expiry(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
