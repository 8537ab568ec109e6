package policy

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/yamldoc"
)

// SyntaxError is an error in a policy file, with its place.
type SyntaxError struct {
	File         string
	Line, Column int // from 1; 0 if the error is about the file as a whole
	Text         string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text)
}

// Parse reads a policy file. name is used in errors, which are of type *SyntaxError.
func Parse(name string, data []byte) (*Policy, error) {
	r := &reader{file: name}
	root, err := r.root(data)
	if err != nil {
		return nil, err
	}
	doc, err := r.document(root)
	if err != nil {
		return nil, err
	}
	p, err := New(doc.identities, doc.rules)
	if err != nil {
		return nil, &SyntaxError{File: name, Text: err.Error()}
	}
	return p, nil
}

// reader turns the syntax tree into a policy.
type reader struct {
	file string
}

type document struct {
	identities []Identity
	rules      []Rule
	defined    map[string]bool
}

func (r *reader) at(n ast.Node, format string, args ...any) error {
	return r.atToken(n.GetToken(), fmt.Sprintf(format, args...))
}

func (r *reader) atToken(t *token.Token, text string) error {
	e := &SyntaxError{File: r.file, Text: text}
	if t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	return e
}

// root reads the one document of the file.
func (r *reader) root(data []byte) (ast.Node, error) {
	root, fault := yamldoc.Parse(data, MaxFileSize)
	if fault != nil {
		return nil, r.atToken(fault.At, fault.Text)
	}
	return root, nil
}

// fields reads a mapping with known keys; each has a function that reads its value.
func (r *reader) fields(n ast.Node, what string, known map[string]func(ast.Node) error, order []string) error {
	entries, err := r.mapping(n, what)
	if err != nil {
		return err
	}
	for _, e := range entries {
		read, ok := known[e.key]
		if !ok {
			return r.at(e.keyNode, "unknown key %q in %s; known are %s", shorten(e.key), what, strings.Join(order, ", "))
		}
		if err := read(e.value); err != nil {
			return err
		}
	}
	return nil
}

type entry struct {
	key     string
	keyNode ast.Node
	value   ast.Node
}

func (r *reader) mapping(n ast.Node, what string) ([]entry, error) {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		return nil, r.at(n, "%s must be a mapping (key: value)", what)
	}
	var entries []entry
	seen := map[string]bool{}
	for _, v := range values {
		key, err := r.text(v.Key, "a key")
		if err != nil {
			return nil, err
		}
		if seen[key] {
			return nil, r.at(v.Key, "key %q stands twice in %s", shorten(key), what)
		}
		seen[key] = true
		entries = append(entries, entry{key, v.Key, v.Value})
	}
	return entries, nil
}

// text reads a scalar as it is written: digests that look like numbers stay what they are.
func (r *reader) text(n ast.Node, what string) (string, error) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, nil
	case *ast.MappingNode:
		if text, ok := glued(s); ok {
			return text, nil
		}
	}
	return "", r.at(n, "%s must be a plain value, without tags, anchors or aliases", what)
}

// glued undoes what the YAML library does to a plain value with a colon, such as a digest, in a list within
// braces: it takes "sha384:00" for a mapping, although no space follows the colon (YAML 1.2, section 7.3.3).
func glued(m *ast.MappingNode) (string, bool) {
	if m.IsFlowStyle || len(m.Values) != 1 {
		return "", false
	}
	n := m.Values[0]
	key, value := n.Key.GetToken(), n.Value.GetToken()
	plain := func(t *token.Token) bool { return t.Type != token.SingleQuoteType && t.Type != token.DoubleQuoteType }
	switch n.Value.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
	default:
		return "", false
	}
	adjacent := value.Position.Line == n.Start.Position.Line && value.Position.Column == n.Start.Position.Column+1
	if !adjacent || !plain(key) || !plain(value) {
		return "", false
	}
	return key.Value + ":" + value.Value, true
}

// list reads a sequence; a single value is a list of one.
func (r *reader) list(n ast.Node) []ast.Node {
	if s, ok := n.(*ast.SequenceNode); ok {
		return s.Values
	}
	return []ast.Node{n}
}

// some is list where nothing in the list would mean that anything will do: that is said by leaving the key out.
func (r *reader) some(n ast.Node) ([]ast.Node, error) {
	items := r.list(n)
	if len(items) == 0 {
		return nil, r.at(n, "the list is empty: leave the key out if any will do, or say which")
	}
	return items, nil
}

func (r *reader) texts(n ast.Node, what string) ([]string, error) {
	var out []string
	for _, item := range r.list(n) {
		s, err := r.text(item, what)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (r *reader) document(n ast.Node) (*document, error) {
	doc := &document{defined: map[string]bool{}}
	var versioned bool
	var rules ast.Node
	err := r.fields(n, "the policy", map[string]func(ast.Node) error{
		"version":    func(n ast.Node) error { versioned = true; return r.version(n) },
		"identities": func(n ast.Node) error { return r.identities(n, doc) },
		"rules":      func(n ast.Node) error { rules = n; return nil },
	}, []string{"version", "identities", "rules"})
	if err != nil {
		return nil, err
	}
	if !versioned {
		return nil, r.at(n, "version is missing: write \"version: %d\"", version)
	}
	if rules == nil {
		return doc, nil
	}
	return doc, r.rules(rules, doc) // after the identities that they name
}

func (r *reader) version(n ast.Node) error {
	if v, err := r.text(n, "version"); err != nil || v != fmt.Sprint(version) {
		return r.at(n, "version must be %d", version)
	}
	return nil
}

func (r *reader) identities(n ast.Node, doc *document) error {
	entries, err := r.mapping(n, "identities")
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, err := r.identity(e)
		if err != nil {
			return err
		}
		doc.identities = append(doc.identities, id)
		doc.defined[id.Name] = true
	}
	return nil
}

func (r *reader) identity(e entry) (Identity, error) {
	id := Identity{Name: e.key}
	err := r.fields(e.value, "identity "+shorten(e.key), map[string]func(ast.Node) error{
		"module":    r.digests(&id.Modules),
		"config":    r.digests(&id.Configs),
		"runtime":   r.digests(&id.Runtimes),
		"simulated": func(n ast.Node) error { return r.simulated(n, &id) },
		"any_of":    func(n ast.Node) error { return r.anyOf(n, &id) },
		"instances": func(n ast.Node) error { return r.instances(n, &id) },
	}, []string{"module", "config", "runtime", "simulated", "any_of", "instances"})
	if err != nil {
		return id, err
	}
	if err := id.check(); err != nil {
		return id, r.at(e.keyNode, "identity %q: %v", shorten(id.Name), err)
	}
	return id, nil
}

func (r *reader) digests(to *[]attest.Digest) func(ast.Node) error {
	return func(n ast.Node) error {
		items, err := r.some(n)
		if err != nil {
			return err
		}
		for _, item := range items {
			s, err := r.text(item, "a digest")
			if err != nil {
				return err
			}
			d, err := attest.ParseDigest(s)
			if err != nil {
				return r.at(item, "%v", err)
			}
			*to = append(*to, d)
		}
		return nil
	}
}

func (r *reader) instances(n ast.Node, id *Identity) (err error) {
	if _, err := r.some(n); err != nil {
		return err
	}
	id.Instances, err = r.texts(n, "an instance")
	return err
}

func (r *reader) simulated(n ast.Node, id *Identity) error {
	if v, err := r.text(n, "simulated"); err != nil || v != "allow" {
		return r.at(n, "simulated takes one value: allow")
	}
	id.Simulated = true
	return nil
}

// anyOf reads a list of entries "platform: { keys }".
func (r *reader) anyOf(n ast.Node, id *Identity) error {
	for _, item := range r.list(n) {
		entries, err := r.mapping(item, "an entry of any_of")
		if err != nil {
			return err
		}
		if len(entries) != 1 {
			return r.at(item, "an entry of any_of names one platform; start another entry with '-' for the next")
		}
		requirement, err := r.requirement(entries[0])
		if err != nil {
			return err
		}
		id.AnyOf = append(id.AnyOf, requirement)
	}
	return nil
}

func (r *reader) requirement(e entry) (Requirement, error) {
	req := Requirement{Platform: attest.Platform(e.key), Want: map[string][]string{}}
	if err := req.checkKeys(); err != nil { // the platform; its keys are checked one by one, for their place
		return req, r.at(e.keyNode, "%v", err)
	}
	entries, err := r.mapping(e.value, e.key)
	if err != nil {
		return req, err
	}
	for _, key := range entries {
		if req.Want[key.key], err = r.values(req.Platform, key); err != nil {
			return req, err
		}
		one := Requirement{Platform: req.Platform, Want: map[string][]string{key.key: req.Want[key.key]}}
		if err := one.checkKeys(); err != nil {
			return req, r.at(key.keyNode, "%v", err)
		}
	}
	if err := req.check(); err != nil { // something is missing
		return req, r.at(e.keyNode, "%v", err)
	}
	return req, nil
}

// values reads the values of a key; a map becomes a list of name=value.
func (r *reader) values(p attest.Platform, e entry) ([]string, error) {
	if schema[p][e.key].form != formMap {
		return r.texts(e.value, e.key)
	}
	entries, err := r.mapping(e.value, e.key)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		value, err := r.text(e.value, e.key)
		if err != nil {
			return nil, err
		}
		out = append(out, e.key+"="+value)
	}
	return out, nil
}

func (r *reader) rules(n ast.Node, doc *document) error {
	for _, item := range r.list(n) {
		rule, err := r.rule(item)
		if err != nil {
			return err
		}
		if err := rule.check(func(name string) bool { return doc.defined[name] }); err != nil {
			return r.at(item, "rule %d: %v", len(doc.rules)+1, err)
		}
		doc.rules = append(doc.rules, rule)
	}
	return nil
}

func (r *reader) rule(n ast.Node) (Rule, error) {
	var rule Rule
	return rule, r.fields(n, "a rule", map[string]func(ast.Node) error{
		"who":        func(n ast.Node) error { return r.who(n, &rule) },
		"publish":    func(n ast.Node) (err error) { rule.Publish, err = r.texts(n, "a topic filter"); return err },
		"subscribe":  func(n ast.Node) (err error) { rule.Subscribe, err = r.texts(n, "a topic filter"); return err },
		"provenance": func(n ast.Node) (err error) { rule.Provenance, err = r.boolean(n, "provenance"); return err },
	}, []string{"who", "publish", "subscribe", "provenance"})
}

func (r *reader) boolean(n ast.Node, what string) (bool, error) {
	switch v, err := r.text(n, what); {
	case err != nil:
		return false, err
	case v == "true", v == "false":
		return v == "true", nil
	}
	return false, r.at(n, "%s is true or false", what)
}

func (r *reader) who(n ast.Node, rule *Rule) error {
	for _, item := range r.list(n) {
		w, err := r.condition(item)
		if err != nil {
			return err
		}
		rule.Who = append(rule.Who, w)
	}
	return nil
}

// condition reads the name of an identity, or a mapping of conditions.
func (r *reader) condition(n ast.Node) (Who, error) {
	var w Who
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		var err error
		w.Identity, err = r.text(n, "who")
		return w, err
	}
	return w, r.fields(n, "who", map[string]func(ast.Node) error{
		"identity":  func(n ast.Node) error { return r.name(n, "identity", &w.Identity) },
		"user":      func(n ast.Node) error { return r.name(n, "user", &w.User) },
		"listener":  func(n ast.Node) error { return r.name(n, "listener", &w.Listener) },
		"anonymous": func(n ast.Node) error { return r.anonymous(n, &w) },
	}, []string{"identity", "user", "listener", "anonymous"})
}

// name reads a condition, which an empty text would take away.
func (r *reader) name(n ast.Node, what string, to *string) (err error) {
	if *to, err = r.text(n, what); err == nil && *to == "" {
		return r.at(n, "%s is empty: name one, or leave the key out if any will do", what)
	}
	return err
}

func (r *reader) anonymous(n ast.Node, w *Who) error {
	if v, err := r.text(n, "anonymous"); err != nil || v != "true" {
		return r.at(n, "anonymous takes one value: true")
	}
	w.Anonymous = true
	return nil
}
