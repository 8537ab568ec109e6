package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Line is a key with its value in force.
type Line struct {
	Path     string `json:"path"` // elements of lists by name
	Value    any    `json:"value"`
	Origin   string `json:"origin"`
	Variable string `json:"variable"` // that sets it
}

// hidden stands for what is not shown.
const hidden = "(hidden)"

// Show returns all keys that are in force, with their values and where they came from. Secrets are hidden. Keys of
// optional sections that are not there are left out.
func (s *Settings) Show() []Line {
	var lines []Line
	for _, slot := range slots(reflect.ValueOf(&s.File).Elem()) {
		v := slot.peek()
		if !v.IsValid() {
			continue
		}
		line := Line{Path: slot.alias, Value: shown(v), Origin: s.exactly(slot.path).String(), Variable: slot.variable}
		if slot.field.secret && !v.IsZero() {
			line.Value = hidden
		}
		lines = append(lines, line)
	}
	return lines
}

// shown returns a value as it would be written.
func shown(v reflect.Value) any {
	if v.Kind() == reflect.Slice {
		list := []string{}
		for i := range v.Len() {
			list = append(list, fmt.Sprint(shown(v.Index(i))))
		}
		return list
	}
	switch value := v.Interface().(type) {
	case time.Duration:
		return value.String()
	case encoding.TextMarshaler:
		text, _ := value.MarshalText()
		return string(text)
	}
	return v.Interface()
}

// String returns the line as text.
func (l Line) String() string {
	value := fmt.Sprint(l.Value)
	if list, ok := l.Value.([]string); ok {
		value = "[" + strings.Join(list, ", ") + "]"
	}
	if value == "" {
		value = `""`
	}
	return l.Path + ": " + value
}

// Key is a key that a file may have.
type Key struct {
	Path     string // elements of lists as []
	Variable string // that sets it; NAME stands for the name of an element; "" if none does
	Doc      string
}

// Keys returns all keys in their order, sections included.
func Keys() []Key {
	var keys []Key
	listKeys(&keys, reflect.TypeFor[File](), "", strings.TrimSuffix(Prefix, "_"))
	return keys
}

func listKeys(keys *[]Key, t reflect.Type, path, variable string) {
	separator := "__"
	if path == "" {
		separator = "_"
	}
	for _, f := range fieldsOf(t) {
		key := Key{Path: join(path, f.key), Variable: variable + separator + variableOf(f.key), Doc: f.doc}
		section, below := f.typ, key.Path
		name := key.Variable
		if shapeOf(f.typ) == shapeList && !shapeOf(pointee(f.typ.Elem())).scalar() {
			section, below, name = pointee(f.typ.Elem()), key.Path+"[]", name+"__NAME"
		}
		if shapeOf(section) == shapeSection {
			key.Variable = ""
			*keys = append(*keys, key)
			listKeys(keys, section, below, name)
			continue
		}
		*keys = append(*keys, key)
	}
}
