package examine

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
)

// checkNames are what drivers without a list of checks do.
var checkNames = map[attest.Platform]string{
	attest.SEVSNP: "AMD's certificates, versions in them, signature of the report",
	attest.Nitro:  "AWS's certificates, signature of the document",
	attest.CCA:    "signature by the platform's key, which vouches for the realm's key, which has signed the realm's token",
	attest.TPM:    "signature of the quote by the attestation key, values of the PCRs",
	attest.Azure:  "hardware's word for the runtime data, signature of the vTPM's quote by the key in there, values of the PCRs",
	attest.Sim:    "signature by the key that it shows",
}

// tcbMeaning says what a status means.
var tcbMeaning = map[attest.TCBStatus]string{
	attest.TCBUpToDate:                          "firmware and microcode are current",
	attest.TCBSWHardeningNeeded:                 "current, but the software in the TEE must have mitigations for the advisories",
	attest.TCBConfigurationNeeded:               "current, but the platform may need another configuration",
	attest.TCBConfigurationAndSWHardeningNeeded: "current, but software needs mitigations and the platform another configuration",
	attest.TCBOutOfDate:                         "the platform lacks security updates",
	attest.TCBOutOfDateConfigurationNeeded:      "the platform lacks security updates and may need another configuration",
	attest.TCBRevoked:                           "THE PLATFORM'S KEYS ARE NOT TO BE TRUSTED ANY MORE",
	attest.TCBNotApplicable:                     "the platform's maker gives no status: a policy sets least versions where there are any",
	attest.TCBSimulated:                         "SIMULATED: it protects nothing",
}

func (r *Result) describeMeasurements(c *attest.PlatformClaims) {
	have := map[string]bool{}
	for _, f := range r.Fields {
		have[strings.ToLower(f.Name)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(c.Measurements)) {
		if !have[name] {
			r.add(name, hex.EncodeToString(c.Measurements[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Versions)) {
		if !have[name] {
			r.add(name, strconv.FormatUint(c.Versions[name], 10))
		}
	}
}

// Write writes it in words: the verdict first.
func (r *Result) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("verdict", r.Sentence())
	r.writeRefusals(line)
	line("what it is", r.what())
	line("looked at as of", stamp(r.At))
	line("binding", r.Binding.Text)
	if r.Debug {
		line("debug", "DEBUG MODE: THE HOST CAN READ IT")
	}
	if r.TCB != "" {
		line("TCB status", r.TCB+": "+r.TCBMeaning)
	}
	line("advisories", strings.Join(r.Advisories, ", "))
	line("conditions", r.conditionWords())
	line("hardware", r.Hardware)
	line("report data", r.ReportData)
	if r.Expires != nil {
		line("can be verified until", stamp(*r.Expires))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return r.writeDetails(w)
}

func (r *Result) writeDetails(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nchecks")
	for _, c := range r.Checks {
		text := c.Outcome
		if c.Error != "" {
			text = strings.ToUpper(c.Outcome) + ": " + c.Error
		}
		fmt.Fprintf(t, "  %s\t%s\n", c.Name, text)
	}
	if len(r.Fields) > 0 {
		title := "\nwhat it says"
		if !r.Genuine {
			title += " (NOT VERIFIED)"
		}
		fmt.Fprintln(t, title)
	}
	for _, f := range r.Fields {
		fmt.Fprintf(t, "  %s\t%s\n", f.Name, shortened(f.Value))
	}
	return t.Flush()
}

// conditionMeaning says what conditions mean.
var conditionMeaning = map[string]string{
	sevsnp.SMT:                 "threads of another guest may run on the same core",
	sevsnp.MigrationAgent:      "it may be moved to another machine",
	sevsnp.ProvisionalFirmware: "AMD's firmware can still be rolled back",
	attest.ConditionServiceTD:  "it is bound to a service TD (MRSERVICETD), which may move it to another machine",
}

func (r *Result) conditionWords() string {
	var all []string
	for _, c := range r.Conditions {
		all = append(all, fmt.Sprintf("%s (%s)", c, conditionMeaning[c]))
	}
	return strings.Join(all, ", ")
}

// shortened keeps rows of zeros from hiding what is there.
func shortened(value string) string {
	if len(value) >= 32 && strings.Trim(value, "0") == "" {
		return fmt.Sprintf("%d bytes of zeros", len(value)/2)
	}
	return value
}

func (r *Result) what() string {
	text := fmt.Sprintf("%s, %d bytes", r.Format, r.Size)
	if len(r.Wrapping) > 0 {
		inner := slices.Clone(r.Wrapping)
		slices.Reverse(inner)
		text += ", written as " + strings.Join(inner, " in ")
	}
	return text
}

// Sentence is the verdict in one line.
func (r *Result) Sentence() string {
	switch {
	case r.lacksCollateral() && r.saysDebug:
		return "NOT VERIFIED, AND IN DEBUG MODE, which no policy accepts: it is signed as it should be, and there is no collateral"
	case r.lacksCollateral() && r.Platform == string(attest.Azure):
		return "NOT VERIFIED: the TD quote is signed as it should be, but whether the platform is sound cannot be told without collateral; the runtime data and the vTPM's quote were not looked at"
	case r.lacksCollateral():
		return "NOT VERIFIED: it is signed as it should be, but whether the platform is sound cannot be told without collateral"
	case errors.Is(r.Err, attest.ErrMissing):
		return "NOT VERIFIED: " + r.Err.Error()
	case r.Err != nil:
		return "REFUSED: " + r.Err.Error()
	case r.judge != nil && r.judge.Accepted:
		return r.accepted()
	case r.judge != nil:
		return "REFUSED: " + r.Verdict.Reason
	case r.Debug:
		return "GENUINE, BUT IN DEBUG MODE, which no policy accepts"
	case r.Simulated:
		return "SIMULATED: the signature is good, and it protects nothing"
	case r.Facts.TCB == attest.TCBRevoked:
		return "GENUINE, BUT REVOKED, which no policy accepts"
	case r.loose != nil:
		return r.loose.note
	case r.Platform == string(attest.CCA):
		return "SIGNED by the platform key that came with it; whether that is a machine's only a policy (cpak) can say"
	case r.Platform == string(attest.TPM):
		return "SIGNED by the key that came with it; whether that is in a TPM only a policy (ak, ak_ca) can say"
	}
	return "GENUINE; no policy was asked whether it is good enough (--policy)"
}

func (r *Result) accepted() string {
	text := "ACCEPTED as " + strings.Join(r.Verdict.Identities, ", ")
	if r.Verdict.Partial {
		text += ", as far as platform and hardware go: a bare quote says nothing of the module"
	}
	if r.loose != nil {
		text += "; WITHOUT A QUOTE of the vTPM, so whatever has booted"
	}
	if r.Simulated {
		text += ", in a simulated TEE, which protects nothing"
	}
	return text
}

func (r *Result) writeRefusals(line func(name, value string)) {
	if r.Verdict == nil {
		return
	}
	for _, identity := range slices.Sorted(maps.Keys(r.Verdict.Refusals)) {
		line("not "+identity, r.Verdict.Refusals[identity])
	}
	line("policy", r.Verdict.Policy)
}

// WriteDecision writes what a policy decided, and why, in a few lines.
func (r *Result) WriteDecision(w io.Writer, name string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\t%s\n", name, r.Sentence())
	fmt.Fprintf(t, "  what it is\t%s\n", r.what())
	for _, identity := range slices.Sorted(maps.Keys(r.Verdict.Refusals)) {
		fmt.Fprintf(t, "  not %s\t%s\n", identity, r.Verdict.Refusals[identity])
	}
	fmt.Fprintf(t, "  binding\t%s\n", r.Binding.Text)
	return t.Flush()
}
