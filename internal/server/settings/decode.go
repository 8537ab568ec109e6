package settings

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/vouchmq/vouchmq/internal/yamldoc"
)

// maxFileSize is how many bytes a file may have.
const maxFileSize = 1 << 20

// decoder fills a value from the syntax tree of a file, and goes on after problems.
type decoder struct {
	settings *Settings
	name     string
}

// decode reads the text of a file into v.
func (d *decoder) decode(text []byte, v reflect.Value) {
	root := d.parse(text)
	if root != nil {
		d.value(root, v, &field{}, "")
	}
}

// parse returns the one document of a file, nil if there is none that can be read. The parser is known to panic on some
// input; that is a problem of the input here.
func (d *decoder) parse(text []byte) (root ast.Node) {
	defer func() {
		if recover() != nil {
			d.problem(Origin{Where: FromFile, Name: d.name}, "", "it uses a form of YAML that cannot be read")
			root = nil
		}
	}()
	root, fault := yamldoc.Parse(text, maxFileSize)
	if fault != nil {
		d.problem(d.at(fault.At), "", "%s", fault.Text)
		return nil
	}
	return root
}

func (d *decoder) at(t *token.Token) Origin {
	o := Origin{Where: FromFile, Name: d.name}
	if t != nil && t.Position != nil {
		o.Line, o.Column = t.Position.Line, t.Position.Column
	}
	return o
}

func (d *decoder) problem(at Origin, path, format string, args ...any) {
	d.settings.add(Problem{Origin: at, Path: path, Text: fmt.Sprintf(format, args...)})
}

// value reads a node into v.
func (d *decoder) value(n ast.Node, v reflect.Value, f *field, path string) {
	if path != "" {
		d.settings.origins[path] = d.at(n.GetToken())
	}
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.problem(d.at(n.GetToken()), path, "anchors, aliases, merge keys and tags are not read: write the value out")
		return
	}
	v = settle(v)
	switch s := shapeOf(v.Type()); {
	case s.scalar():
		d.scalar(n, v, f, path)
	case s == shapeSection:
		d.section(n, v, path)
	case s == shapeList:
		d.list(n, v, f, path)
	case s == shapeTable:
		d.table(n, v, f, path)
	}
}

// scalar reads one word, written the way its type is written.
func (d *decoder) scalar(n ast.Node, v reflect.Value, f *field, path string) {
	word, want, ok := wordOf(n, shapeOf(v.Type()), f)
	if !ok {
		d.problem(d.at(n.GetToken()), path, "%s is expected here", want)
		return
	}
	if err := setScalar(v, f, word); err != nil {
		d.problem(d.at(n.GetToken()), path, "%s", err)
	}
}

// wordOf returns the word of a node, and what is expected in its place if it is of another type.
func wordOf(n ast.Node, s shape, f *field) (word, want string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, expected[s], s == shapeText || s == shapeDuration
	case *ast.LiteralNode:
		return n.Value.Value, expected[s], s == shapeText
	case *ast.IntegerNode:
		return n.Token.Value, expected[s], s == shapeInt || s == shapeUint || s == shapeFloat
	case *ast.FloatNode: // version numbers among the values of an enum need no quotes
		return n.Token.Value, expected[s], s == shapeFloat || s == shapeText && len(f.enum) > 0
	case *ast.BoolNode:
		return n.Token.Value, expected[s], s == shapeBool
	}
	return "", expected[s], false
}

var expected = map[shape]string{
	shapeText: "text (in quotes, if it looks like a number)", shapeBool: "true or false", shapeInt: "a whole number",
	shapeUint: "a whole number", shapeFloat: "a number", shapeDuration: "a time, such as 10s,",
}

// section reads a mapping whose keys are known.
func (d *decoder) section(n ast.Node, v reflect.Value, path string) {
	fields := fieldsOf(v.Type())
	given := map[string]bool{}
	d.entries(n, path, func(key string, keyNode, value ast.Node) {
		f := fieldNamed(fields, key)
		if f == nil {
			d.problem(d.at(keyNode.GetToken()), join(path, short(key)), "unknown key%s", d.remedy(key, fields))
			return
		}
		given[key] = true
		d.value(value, v.FieldByIndex(f.index), f, join(path, key))
	})
	d.missing(n, fields, given, path)
}

// remedy lists the keys there are, or the one that was meant.
func (d *decoder) remedy(key string, fields []field) string {
	if hint := didYouMean(key, keysOf(fields)); hint != "" {
		return hint
	}
	return "; known are " + strings.Join(keysOf(fields), ", ")
}

// missing notes what a section of a list or an optional one lacks. That of the file as a whole may come from elsewhere,
// and is looked for at the end.
func (d *decoder) missing(n ast.Node, fields []field, given map[string]bool, path string) {
	if path == "" {
		return
	}
	for _, f := range fields {
		if f.required && !given[f.key] {
			d.problem(d.at(n.GetToken()), join(path, f.key), "it is missing: %s", f.doc)
		}
	}
}

// entries calls f for each key of a mapping.
func (d *decoder) entries(n ast.Node, path string, f func(key string, keyNode, value ast.Node)) {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	case *ast.NullNode: // a key with nothing below it
	default:
		d.problem(d.at(n.GetToken()), path, "keys and values are expected here")
	}
	for _, entry := range values {
		key, ok := entry.Key.(*ast.StringNode)
		if !ok {
			d.problem(d.at(entry.Key.GetToken()), path, "a key must be plain text")
			continue
		}
		f(key.Value, key, entry.Value)
	}
}

// list reads a sequence in place of what the list held.
func (d *decoder) list(n ast.Node, v reflect.Value, f *field, path string) {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		d.problem(d.at(n.GetToken()), path, "a list is expected here")
		return
	}
	v.SetZero()
	for i, node := range sequence.Values {
		element := fresh(pointee(v.Type().Elem())).Elem()
		d.value(node, element, f, fmt.Sprintf("%s[%d]", path, i))
		if v.Type().Elem().Kind() == reflect.Pointer {
			element = element.Addr()
		}
		v.Set(reflect.Append(v, element))
	}
}

// table reads a mapping whose keys may be any.
func (d *decoder) table(n ast.Node, v reflect.Value, f *field, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.entries(n, path, func(key string, _, node ast.Node) {
		element := fresh(pointee(v.Type().Elem())).Elem()
		d.value(node, element, f, join(path, key))
		if v.Type().Elem().Kind() == reflect.Pointer {
			element = element.Addr()
		}
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
	})
}
