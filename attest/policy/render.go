package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
)

// YAML returns the policy as a file that Parse reads to an equal policy.
func (p *Policy) YAML() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "version: %d\n", version)
	if len(p.identities) > 0 {
		b.WriteString("identities:\n")
	}
	for _, id := range p.identities {
		id.yaml(&b)
	}
	if len(p.rules) > 0 {
		b.WriteString("rules:\n")
	}
	for _, r := range p.rules {
		r.yaml(&b)
	}
	return []byte(b.String())
}

func (id *Identity) yaml(b *strings.Builder) {
	fmt.Fprintf(b, "  %s:\n", quoteName(id.Name))
	yamlDigests(b, "module", id.Modules)
	yamlDigests(b, "config", id.Configs)
	yamlDigests(b, "runtime", id.Runtimes)
	if id.Simulated {
		b.WriteString("    simulated: allow # protects nothing\n")
	}
	b.WriteString("    any_of:\n")
	for _, r := range id.AnyOf {
		r.yaml(b)
	}
	if len(id.Instances) > 0 {
		fmt.Fprintf(b, "    instances: %s\n", quoteList(id.Instances))
	}
}

func yamlDigests(b *strings.Builder, key string, digests []attest.Digest) {
	if len(digests) == 0 {
		return
	}
	fmt.Fprintf(b, "    %s:\n", key)
	for _, d := range digests {
		fmt.Fprintf(b, "      - %s\n", d)
	}
}

func (r *Requirement) yaml(b *strings.Builder) {
	if len(r.Want) == 0 {
		fmt.Fprintf(b, "      - %s: {}\n", r.Platform)
		return
	}
	fmt.Fprintf(b, "      - %s:\n", r.Platform)
	for _, key := range slices.Sorted(maps.Keys(r.Want)) {
		fmt.Fprintf(b, "          %s: %s\n", key, yamlValues(schema[r.Platform][key].form, r.Want[key]))
	}
}

func yamlValues(f form, values []string) string {
	switch f {
	case formScalar:
		return values[0]
	case formMap:
		var parts []string
		for _, v := range values {
			name, value, _ := strings.Cut(v, "=")
			parts = append(parts, name+": "+strconv.Quote(value))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	return quoteList(values)
}

func (r *Rule) yaml(b *strings.Builder) {
	var who []string
	for _, w := range r.Who {
		who = append(who, w.yaml())
	}
	fmt.Fprintf(b, "  - who: [%s]\n", strings.Join(who, ", "))
	if len(r.Publish) > 0 {
		fmt.Fprintf(b, "    publish: %s\n", quoteList(r.Publish))
	}
	if len(r.Subscribe) > 0 {
		fmt.Fprintf(b, "    subscribe: %s\n", quoteList(r.Subscribe))
	}
	if r.Provenance {
		b.WriteString("    provenance: true\n")
	}
}

func (w *Who) yaml() string {
	var parts []string
	for _, f := range []struct{ key, value string }{{"identity", w.Identity}, {"user", w.User}, {"listener", w.Listener}} {
		if f.value != "" {
			parts = append(parts, f.key+": "+quote(f.value))
		}
	}
	if w.Anonymous {
		parts = append(parts, "anonymous: true")
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

func quoteList(values []string) string {
	var parts []string
	for _, v := range values {
		parts = append(parts, quote(v))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// quote returns a single-quoted YAML scalar: texts of a policy are printable, so nothing else needs escaping.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// quoteName leaves names plain that YAML reads as text.
func quoteName(name string) string {
	switch strings.ToLower(name) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		return quote(name)
	}
	return name
}
