// Package show puts verdicts of attestation into words, and into JSON.
package show

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
)

// Verdict is what there is to say about one appraisal. In JSON it is what `vouchmq inspect --json` prints.
type Verdict struct {
	Service      string            `json:"service,omitempty"`
	Address      string            `json:"address,omitempty"`
	Carrier      string            `json:"carrier,omitempty"` // how the evidence came
	Accepted     bool              `json:"accepted"`
	Identities   []string          `json:"identities,omitempty"`
	Reason       string            `json:"reason,omitempty"` // why it was refused
	Kind         string            `json:"kind,omitempty"`   // of the reason, in a few fixed words
	Refusals     map[string]string `json:"refusals,omitempty"`
	Platform     string            `json:"platform,omitempty"`
	Simulated    bool              `json:"simulated,omitempty"`
	Verified     bool              `json:"verified"` // the evidence is genuine: what follows can be believed
	Module       string            `json:"module,omitempty"`
	Config       string            `json:"config,omitempty"`
	Runtime      string            `json:"runtime,omitempty"`
	Instance     string            `json:"instance,omitempty"`
	TCB          string            `json:"tcb,omitempty"`
	Advisories   []string          `json:"advisories,omitempty"`
	Debug        bool              `json:"debug,omitempty"`
	Hardware     string            `json:"hardware,omitempty"`
	Measurements map[string]string `json:"measurements,omitempty"`
	Versions     map[string]uint64 `json:"versions,omitempty"`
	Certificate  *Certificate      `json:"certificate,omitempty"`
	At           time.Time         `json:"at"`
}

// Certificate is the broker's, as verified by TLS.
type Certificate struct {
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"not_after"`
}

// Of describes a verdict.
func Of(v *policy.Verdict) Verdict {
	s := Verdict{Accepted: v.Accepted, Identities: v.Identities, Platform: string(v.Platform), At: v.At.UTC()}
	s.Simulated = v.Platform.Simulated()
	if v.Err != nil {
		s.Reason = v.Err.Error()
		if kind := policy.KindOf(v.Err); kind != 0 {
			s.Kind = kind.Error()
		}
	}
	for _, r := range v.Refusals {
		if s.Refusals == nil {
			s.Refusals = map[string]string{}
		}
		s.Refusals[r.Identity] = r.Err.Error()
	}
	if v.Facts != nil {
		s.addFacts(v.Facts)
	}
	return s
}

// OfReport describes what an inspection found.
func OfReport(r *client.Report) Verdict {
	s := Of(r.Verdict)
	s.Service, s.Address, s.Carrier = r.Service, r.Address, string(r.Carrier)
	if c := r.Certificate; c != nil {
		s.Certificate = &Certificate{Issuer: c.Issuer.String(), NotAfter: c.NotAfter.UTC()}
	}
	return s
}

func (s *Verdict) addFacts(f *attest.Facts) {
	s.Verified = true
	s.Module, s.Config, s.Runtime = f.Module.String(), f.Config.String(), f.Runtime.String()
	s.Instance, s.TCB, s.Advisories, s.Debug = f.Instance, string(f.TCB), f.Advisories, f.Debug
	s.Hardware, s.Versions = f.HardwareID, f.Versions
	s.Measurements = make(map[string]string, len(f.Measurements))
	for name, value := range f.Measurements {
		s.Measurements[name] = hex.EncodeToString(value)
	}
}

// Write writes it in words.
func (s Verdict) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range s.lines() {
		if line[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", line[0], line[1])
		}
	}
	return t.Flush()
}

func (s Verdict) lines() [][2]string {
	lines := [][2]string{{"verdict", s.Sentence()}}
	for _, identity := range slices.Sorted(maps.Keys(s.Refusals)) {
		lines = append(lines, [2]string{"", "not " + identity + ": " + s.Refusals[identity]})
	}
	lines = append(lines, [][2]string{
		{"service", s.Service}, {"address", s.Address}, {"carrier", s.carrier()}, {"platform", s.platform()},
		{"module", s.Module}, {"config", s.Config}, {"runtime", s.Runtime}, {"instance", s.Instance},
		{"TCB", s.tcb()}, {"hardware", s.Hardware}, {"measured", s.measured()}, {"certificate", s.certificate()},
	}...)
	return lines
}

// Sentence is the verdict in one line.
func (s Verdict) Sentence() string {
	switch {
	case s.Accepted && s.Simulated:
		return "ACCEPTED as " + strings.Join(s.Identities, ", ") + ", in a simulated TEE"
	case s.Accepted:
		return "ACCEPTED as " + strings.Join(s.Identities, ", ")
	}
	return "REFUSED: " + s.Reason
}

func (s Verdict) carrier() string {
	switch atls.Carrier(s.Carrier) {
	case atls.N1:
		return "n1, evidence in the session ticket"
	case atls.P1:
		return "p1, evidence as the first application data"
	}
	return s.Carrier
}

func (s Verdict) platform() string {
	switch {
	case s.Platform == "":
		return ""
	case !s.Verified:
		return s.Platform + ", as it says itself: nothing about it was verified"
	case s.Simulated:
		return s.Platform + " (SIMULATED: it protects nothing)"
	}
	return s.Platform
}

func (s Verdict) tcb() string {
	text := s.TCB
	if len(s.Advisories) > 0 {
		text += ", " + strings.Join(s.Advisories, ", ")
	}
	if s.Debug {
		text += ", DEBUG MODE: its host can read it"
	}
	return text
}

func (s Verdict) measured() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.Measurements)) {
		all = append(all, name+"="+s.Measurements[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Versions)) {
		all = append(all, fmt.Sprintf("%s=%d", name, s.Versions[name]))
	}
	return strings.Join(all, " ")
}

func (s Verdict) certificate() string {
	if s.Certificate == nil {
		return ""
	}
	return "issued by " + s.Certificate.Issuer + ", good until " + s.Certificate.NotAfter.Format(time.RFC3339)
}
