// Package policy says who is who, and who may do what.
//
// A policy has two parts. Identities name attested programs: an identity holds for verified evidence
// ([attest.Facts]) if module, configuration, runtime, platform and hardware are among those it lists.
// Rules say which topics a peer may publish and subscribe, by identity, user name or listener; they are
// data for the broker's core, which enforces them.
//
//	version: 1
//	identities:
//	  broker:
//	    module:  [sha384:...]
//	    config:  [sha384:...]          # optional
//	    runtime: [sha384:...]          # optional
//	    simulated: allow               # only where a sim entry stands below
//	    any_of:
//	      - sim: { key: [sha384:...] } # key and measurement are optional: "sim: {}" is any simulated TEE
//	      - tdx: { mrtd: [...], tcb: [UpToDate] }
//	    instances: [...]               # optional, enrolled hardware: "sim:..."
//	rules:                             # first match decides, no match refuses
//	  - who: broker
//	    publish: ["a/%c/#"]            # %c client id, %u user name, %i identity, %% a percent sign
//	    provenance: true               # optional: subscribers are told who has published
//	  - who: [dashboard, { user: alice }]
//	    subscribe: ["a/#"]
//	  - who: { anonymous: true, listener: plain }
//	    publish: ["public/#"]
//
// [Parse] reads the file strictly: an unknown key is an error with line and column. A policy has one
// canonical form ([Policy.Canonical]), independent of layout, comments and the order of keys and of lists
// whose order means nothing; its digest is part of what a broker attests.
//
// An [Appraiser] puts a policy and a registry of verifiers together: evidence goes in, a [Verdict] comes
// out. Some things no policy can allow: debug mode, a revoked or unknown TCB status.
package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/vouchmq/vouchmq/attest"
)

// Bounds of a policy.
const (
	MaxFileSize   = 256 << 10 // bytes of YAML or of the canonical form
	maxIdentities = 256
	maxRules      = 1024
	maxList       = 1024
	maxText       = 1024 // bytes of any one name, filter or value
)

// Identity names attested programs. Evidence must satisfy every part that is not empty.
type Identity struct {
	Name      string
	Modules   []attest.Digest // accepted Wasm modules, at least one
	Configs   []attest.Digest // accepted configurations, empty: any
	Runtimes  []attest.Digest // accepted runtimes, empty: any, the platform's measurement covers it
	Simulated bool            // a simulated TEE may hold this identity
	AnyOf     []Requirement   // accepted platforms, at least one
	Instances []string        // enrolled hardware (attest.PlatformClaims.HardwareID), empty: any
}

// Requirement is what one platform must show: all keys must hold.
type Requirement struct {
	Platform attest.Platform
	// Want maps the keys of the platform to their values in text form. In a list any value will do; the
	// entries of a map (pcrs, min_tcb) are written "name=value", and all of them must hold.
	Want map[string][]string
}

// Rule allows topics. The first rule with a Who that matches a peer decides for it.
type Rule struct {
	Who       []Who    // any one must match
	Publish   []string // topic filters
	Subscribe []string // topic filters
	// Provenance has the broker say on each message which attested identity has published it by this rule, from which
	// platform and with which module.
	Provenance bool
}

// Who describes peers. Every field that is set must hold.
type Who struct {
	Identity  string // holds this attested identity
	User      string // has authenticated as this user
	Listener  string // came in through the listener of this name
	Anonymous bool   // has neither attested identity nor user name
}

// Policy is a valid policy. It is immutable.
type Policy struct {
	identities []Identity // sorted by name
	rules      []Rule
	canonical  []byte
}

// New checks identities and rules and makes a policy of them.
func New(identities []Identity, rules []Rule) (*Policy, error) {
	p := &Policy{}
	if len(identities) > maxIdentities || len(rules) > maxRules {
		return nil, fmt.Errorf("policy is too large: at most %d identities and %d rules", maxIdentities, maxRules)
	}
	for _, id := range identities {
		if err := id.check(); err != nil {
			return nil, fmt.Errorf("identity %q: %w", id.Name, err)
		}
		p.identities = append(p.identities, id.normal())
	}
	slices.SortFunc(p.identities, func(a, b Identity) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(p.identities); i++ {
		if p.identities[i].Name == p.identities[i-1].Name {
			return nil, fmt.Errorf("identity %q is defined twice", p.identities[i].Name)
		}
	}
	for i, r := range rules {
		if err := r.check(p.has); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		p.rules = append(p.rules, r.normal())
	}
	var err error
	p.canonical, err = encodeCanonical(p)
	return p, err
}

// Simulated returns an identity for a simulated TEE, as a development broker needs it: the given module, the
// given configuration unless it is zero, and only evidence signed by the key with that digest.
func Simulated(name string, module, config, key attest.Digest) Identity {
	id := Identity{
		Name: name, Modules: []attest.Digest{module}, Simulated: true,
		AnyOf: []Requirement{{Platform: attest.Sim, Want: map[string][]string{"key": {key.String()}}}},
	}
	if !config.IsZero() {
		id.Configs = []attest.Digest{config}
	}
	return id
}

// Identities returns the identities, sorted by name. The caller must not change what they point to.
func (p *Policy) Identities() []Identity { return slices.Clone(p.identities) }

// Rules returns the rules in order. The caller must not change what they point to.
func (p *Policy) Rules() []Rule { return slices.Clone(p.rules) }

// Canonical returns the canonical form: deterministic CBOR.
func (p *Policy) Canonical() []byte { return slices.Clone(p.canonical) }

// Digest returns the SHA-384 digest of the canonical form.
func (p *Policy) Digest() attest.Digest { return attest.Sum(p.canonical) }

// Patience returns how long evidence may take that the policy accepts: that of the slowest platform that it names.
func (p *Policy) Patience() time.Duration {
	patience := attest.Platform("").Patience()
	for _, id := range p.identities {
		for _, r := range id.AnyOf {
			patience = max(patience, r.Platform.Patience())
		}
	}
	return patience
}

func (p *Policy) has(identity string) bool {
	return slices.ContainsFunc(p.identities, func(id Identity) bool { return id.Name == identity })
}

func (id *Identity) check() error {
	if !validName(id.Name) {
		return fmt.Errorf("a name has 1 to 64 letters, digits, '-', '_' or '.', and starts with a letter")
	}
	if len(id.Modules) == 0 {
		return fmt.Errorf("module is missing: name at least one accepted digest")
	}
	if len(id.AnyOf) == 0 {
		return fmt.Errorf("any_of is missing: name at least one accepted platform")
	}
	if max(len(id.Modules), len(id.Configs), len(id.Runtimes), len(id.AnyOf), len(id.Instances)) > maxList {
		return fmt.Errorf("a list is longer than %d entries", maxList)
	}
	for i := range id.AnyOf {
		if err := id.AnyOf[i].check(); err != nil {
			return err
		}
	}
	for _, instance := range id.Instances {
		if !validText(instance) {
			return fmt.Errorf("instances: %q is not a printable text of 1 to %d bytes", shorten(instance), maxText)
		}
	}
	if err := id.checkInstances(); err != nil {
		return err
	}
	return id.checkSimulated()
}

// checkInstances wants hardware to be known from somebody who is trusted: that of a TPM is what the CA of its key says.
func (id *Identity) checkInstances() error {
	if len(id.Instances) == 0 {
		return nil
	}
	for _, r := range id.AnyOf {
		if r.Platform == attest.TPM && len(r.Want["ak_ca"]) == 0 {
			return fmt.Errorf("instances: tpm needs \"ak_ca\", since it is that CA which says to which machine a key belongs")
		}
	}
	return nil
}

// checkSimulated wants simulation named twice, so that nobody allows it by accident.
func (id *Identity) checkSimulated() error {
	sim := slices.ContainsFunc(id.AnyOf, func(r Requirement) bool { return r.Platform.Simulated() })
	if sim && !id.Simulated {
		return fmt.Errorf("any_of names sim, which protects nothing: add \"simulated: allow\" if that is meant")
	}
	if !sim && id.Simulated {
		return fmt.Errorf("\"simulated: allow\" has no effect: any_of does not name sim")
	}
	return nil
}

func (r *Rule) check(defined func(string) bool) error {
	if len(r.Who) == 0 {
		return fmt.Errorf("who is missing")
	}
	if max(len(r.Who), len(r.Publish), len(r.Subscribe)) > maxList {
		return fmt.Errorf("a list is longer than %d entries", maxList)
	}
	if r.Provenance && len(r.Publish) == 0 {
		return fmt.Errorf("provenance is of what is published, and publish is missing")
	}
	for _, w := range r.Who {
		if err := w.check(defined); err != nil {
			return err
		}
	}
	for _, f := range slices.Concat(r.Publish, r.Subscribe) {
		if err := checkFilter(f); err != nil {
			return err
		}
	}
	return nil
}

func (w *Who) check(defined func(string) bool) error {
	if *w == (Who{}) {
		return fmt.Errorf("who is empty: name an identity, user, listener, or \"anonymous: true\"")
	}
	if w.Identity != "" && !defined(w.Identity) {
		return fmt.Errorf("who names identity %q, which is not defined under identities", shorten(w.Identity))
	}
	if w.Anonymous && (w.Identity != "" || w.User != "") {
		return fmt.Errorf("who is anonymous and has an identity or user: no peer is both")
	}
	for _, text := range []string{w.User, w.Listener} {
		if text != "" && !validText(text) {
			return fmt.Errorf("who: %q is not a printable text of 1 to %d bytes", shorten(text), maxText)
		}
	}
	return nil
}

// checkFilter checks an MQTT topic filter ([MQTT-4.7.1-1] to [MQTT-4.7.1-2]) with placeholders.
func checkFilter(filter string) error {
	if !validText(filter) {
		return fmt.Errorf("topic filter %q is not a printable text of 1 to %d bytes", shorten(filter), maxText)
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.Contains(level, "#") && (level != "#" || i != len(levels)-1) {
			return fmt.Errorf("topic filter %q: '#' must be a whole level, and the last", shorten(filter))
		}
		if strings.Contains(level, "+") && level != "+" {
			return fmt.Errorf("topic filter %q: '+' must be a whole level", shorten(filter))
		}
	}
	for rest := filter; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			return nil
		}
		if after == "" || !strings.ContainsRune("cui%", rune(after[0])) {
			return fmt.Errorf("topic filter %q: after '%%' must come c (client id), u (user name), i (identity) or another %%", shorten(filter))
		}
		rest = after[1:]
	}
}

// normal returns a deep copy in which lists whose order means nothing are sorted, without repetitions.
func (id Identity) normal() Identity {
	id.Modules, id.Configs, id.Runtimes = sortedDigests(id.Modules), sortedDigests(id.Configs), sortedDigests(id.Runtimes)
	id.Instances = sortedTexts(id.Instances)
	var anyOf []Requirement
	for _, r := range id.AnyOf {
		anyOf = append(anyOf, r.normal())
	}
	slices.SortFunc(anyOf, compareRequirements)
	id.AnyOf = slices.CompactFunc(anyOf, func(a, b Requirement) bool { return compareRequirements(a, b) == 0 })
	return id
}

func (r Rule) normal() Rule {
	who := slices.Clone(r.Who)
	slices.SortFunc(who, func(a, b Who) int { return strings.Compare(a.String(), b.String()) })
	return Rule{
		Who: slices.Compact(who), Publish: sortedTexts(r.Publish), Subscribe: sortedTexts(r.Subscribe), Provenance: r.Provenance,
	}
}

// String returns the condition in words.
func (w Who) String() string {
	var parts []string
	if w.Anonymous {
		parts = append(parts, "anonymous")
	}
	if w.Identity != "" {
		parts = append(parts, "identity "+w.Identity)
	}
	if w.User != "" {
		parts = append(parts, "user "+w.User)
	}
	if w.Listener != "" {
		parts = append(parts, "through listener "+w.Listener)
	}
	return strings.Join(parts, ", ")
}

func sortedDigests(list []attest.Digest) []attest.Digest {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b attest.Digest) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(list)
}

func sortedTexts(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

func validName(name string) bool {
	if len(name) == 0 || len(name) > 64 || !isLetter(name[0]) {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !isLetter(c) && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func validText(s string) bool {
	return s != "" && len(s) <= maxText && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
