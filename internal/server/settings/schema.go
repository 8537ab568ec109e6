package settings

import (
	"encoding/json"
	"reflect"
	"strconv"
)

// schemaNode is the part of JSON Schema (draft 2020-12) that is needed here.
type schemaNode struct {
	Schema      string                 `json:"$schema,omitempty"`
	ID          string                 `json:"$id,omitempty"`
	Title       string                 `json:"title,omitempty"`
	Description string                 `json:"description,omitempty"`
	Type        any                    `json:"type,omitempty"`
	Enum        []any                  `json:"enum,omitempty"`
	Pattern     string                 `json:"pattern,omitempty"`
	Minimum     any                    `json:"minimum,omitempty"`
	Maximum     any                    `json:"maximum,omitempty"`
	Default     any                    `json:"default,omitempty"`
	Items       *schemaNode            `json:"items,omitempty"`
	Properties  map[string]*schemaNode `json:"properties,omitempty"`
	Required    []string               `json:"required,omitempty"`
	Additional  any                    `json:"additionalProperties,omitempty"`
}

// durationPattern is what time.ParseDuration takes, without a sign.
const durationPattern = `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`

// Schema returns the JSON schema of a file, for editors. base has the defaults.
func Schema(base File) ([]byte, error) {
	root := sectionSchema(reflect.ValueOf(&base).Elem())
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "Configuration of a VouchMQ broker"
	b, err := json.MarshalIndent(root, "", "  ")
	return append(b, '\n'), err
}

// sectionSchema describes a section whose defaults are v.
func sectionSchema(v reflect.Value) *schemaNode {
	n := &schemaNode{Type: "object", Properties: map[string]*schemaNode{}, Additional: false}
	for _, f := range fieldsOf(v.Type()) {
		n.Properties[f.key] = fieldSchema(&f, v.FieldByIndex(f.index))
		if f.required {
			n.Required = append(n.Required, f.key)
		}
	}
	return n
}

func fieldSchema(f *field, value reflect.Value) *schemaNode {
	n := valueSchema(f, f.typ, reflect.Indirect(value))
	n.Description = f.doc
	return n
}

// valueSchema describes a value of type t. value is its default, and not valid if it has none.
func valueSchema(f *field, t reflect.Type, value reflect.Value) *schemaNode {
	switch s := shapeOf(t); {
	case s.scalar():
		return scalarSchema(f, s, t, value)
	case s == shapeSection:
		if !value.IsValid() {
			value = fresh(t).Elem()
		}
		n := sectionSchema(value)
		n.Type = []string{"object", "null"} // a key with nothing below it
		return n
	case s == shapeList:
		return &schemaNode{Type: "array", Items: elementSchema(f, t)}
	}
	return &schemaNode{Type: "object", Additional: elementSchema(f, t)}
}

// elementSchema describes the elements of a list or table.
func elementSchema(f *field, t reflect.Type) *schemaNode {
	element := pointee(t.Elem())
	n := valueSchema(f, element, fresh(element).Elem())
	n.Default = nil
	if n.Properties != nil {
		n.Type = "object"
	}
	return n
}

func scalarSchema(f *field, s shape, t reflect.Type, value reflect.Value) *schemaNode {
	n := &schemaNode{Type: jsonTypes[s]}
	if value.IsValid() && !value.IsZero() {
		n.Default = shown(value)
	}
	switch s {
	case shapeDuration:
		n.Pattern = durationPattern
	case shapeInt, shapeUint:
		n.Minimum, n.Maximum = bound(f.min, least(reflect.New(t).Elem())), bound(f.max, most(reflect.New(t).Elem()))
	}
	for _, word := range f.enum {
		n.Enum = append(n.Enum, word)
		if number, err := strconv.ParseFloat(word, 64); err == nil { // may be written without quotes
			n.Enum, n.Type = append(n.Enum, number), nil
		}
	}
	return n
}

var jsonTypes = map[shape]string{
	shapeText: "string", shapeBool: "boolean", shapeInt: "integer", shapeUint: "integer", shapeFloat: "number", shapeDuration: "string",
}

func bound(tag, otherwise string) any {
	if tag == "" {
		tag = otherwise
	}
	return json.Number(tag)
}
