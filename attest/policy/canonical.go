package policy

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// The canonical form is deterministic CBOR of these structures, lists sorted where order means nothing.
type policyWire struct {
	Version    int            `cbor:"version"`
	Identities []identityWire `cbor:"identities"`
	Rules      []ruleWire     `cbor:"rules"`
}

type identityWire struct {
	Name      string            `cbor:"name"`
	Module    [][]byte          `cbor:"module"`
	Config    [][]byte          `cbor:"config"`
	Runtime   [][]byte          `cbor:"runtime"`
	Simulated bool              `cbor:"simulated"`
	AnyOf     []requirementWire `cbor:"any_of"`
	Instances []string          `cbor:"instances"`
}

type requirementWire struct {
	Platform string              `cbor:"platform"`
	Want     map[string][]string `cbor:"want"`
}

type ruleWire struct {
	Who        []whoWire `cbor:"who"`
	Publish    []string  `cbor:"publish"`
	Subscribe  []string  `cbor:"subscribe"`
	Provenance bool      `cbor:"provenance,omitempty"`
}

type whoWire struct {
	Identity  string `cbor:"identity,omitempty"`
	User      string `cbor:"user,omitempty"`
	Listener  string `cbor:"listener,omitempty"`
	Anonymous bool   `cbor:"anonymous,omitempty"`
}

const version = 1

func encodeCanonical(p *Policy) ([]byte, error) {
	w := policyWire{Version: version, Identities: []identityWire{}, Rules: []ruleWire{}}
	for _, id := range p.identities {
		w.Identities = append(w.Identities, id.wire())
	}
	for _, r := range p.rules {
		w.Rules = append(w.Rules, r.wire())
	}
	data, err := dcbor.Encode(w)
	if err != nil {
		return nil, fmt.Errorf("canonical form of the policy: %w", err)
	}
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("policy is too large: canonical form of %d bytes (at most %d)", len(data), MaxFileSize)
	}
	return data, nil
}

// ParseCanonical reads a canonical form and accepts nothing but it.
func ParseCanonical(data []byte) (*Policy, error) {
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("policy of %d bytes is too large (at most %d)", len(data), MaxFileSize)
	}
	var w policyWire
	if err := dcbor.Decode(data, &w); err != nil {
		return nil, fmt.Errorf("canonical form of a policy: %w", err)
	}
	if w.Version != version {
		return nil, fmt.Errorf("policy is of version %d, this program knows version %d", w.Version, version)
	}
	p, err := w.policy()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(p.canonical, data) {
		return nil, errors.New("policy is not in its canonical form")
	}
	return p, nil
}

func (w *policyWire) policy() (*Policy, error) {
	var identities []Identity
	for i := range w.Identities {
		id, err := w.Identities[i].identity()
		if err != nil {
			return nil, err
		}
		identities = append(identities, id)
	}
	var rules []Rule
	for _, r := range w.Rules {
		rule := Rule{Publish: r.Publish, Subscribe: r.Subscribe, Provenance: r.Provenance}
		for _, who := range r.Who {
			rule.Who = append(rule.Who, Who(who))
		}
		rules = append(rules, rule)
	}
	return New(identities, rules)
}

func (id *Identity) wire() identityWire {
	w := identityWire{
		Name: id.Name, Simulated: id.Simulated, AnyOf: []requirementWire{}, Instances: texts(id.Instances),
		Module: digestsToWire(id.Modules), Config: digestsToWire(id.Configs), Runtime: digestsToWire(id.Runtimes),
	}
	for _, r := range id.AnyOf {
		w.AnyOf = append(w.AnyOf, requirementWire{Platform: string(r.Platform), Want: r.Want})
	}
	return w
}

func (w *identityWire) identity() (Identity, error) {
	id := Identity{Name: w.Name, Simulated: w.Simulated, Instances: w.Instances}
	var err [3]error
	id.Modules, err[0] = digestsFromWire(w.Module)
	id.Configs, err[1] = digestsFromWire(w.Config)
	id.Runtimes, err[2] = digestsFromWire(w.Runtime)
	for _, r := range w.AnyOf {
		id.AnyOf = append(id.AnyOf, Requirement{Platform: attest.Platform(r.Platform), Want: r.Want})
	}
	return id, errors.Join(err[:]...)
}

func (r *Rule) wire() ruleWire {
	w := ruleWire{Who: []whoWire{}, Publish: texts(r.Publish), Subscribe: texts(r.Subscribe), Provenance: r.Provenance}
	for _, who := range r.Who {
		w.Who = append(w.Who, whoWire(who))
	}
	return w
}

// texts makes an empty list of none: null and an empty list must not be two forms of the same policy.
func texts(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func digestsToWire(list []attest.Digest) [][]byte {
	w := [][]byte{}
	for _, d := range list {
		w = append(w, d[:])
	}
	return w
}

func digestsFromWire(w [][]byte) ([]attest.Digest, error) {
	var list []attest.Digest
	for _, b := range w {
		if len(b) != attest.DigestSize {
			return nil, fmt.Errorf("a digest of %d bytes is not %d bytes long", len(b), attest.DigestSize)
		}
		list = append(list, attest.Digest(b))
	}
	return list, nil
}
