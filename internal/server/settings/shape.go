package settings

import (
	"encoding"
	"reflect"
	"strings"
	"time"
)

// shape is what a type looks like from outside.
type shape uint8

const (
	shapeText shape = iota
	shapeBool
	shapeInt
	shapeUint
	shapeFloat
	shapeDuration
	shapeSection // keys that are known
	shapeList
	shapeTable // keys that are not
	shapeOther // cannot be set from outside
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// shapeOf returns the shape of a type that is no pointer.
func shapeOf(t reflect.Type) shape {
	switch {
	case t == durationType:
		return shapeDuration
	case reflect.PointerTo(t).Implements(textType):
		return shapeText
	}
	switch t.Kind() {
	case reflect.String:
		return shapeText
	case reflect.Bool:
		return shapeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return shapeInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return shapeUint
	case reflect.Float32, reflect.Float64:
		return shapeFloat
	case reflect.Struct:
		return shapeSection
	case reflect.Slice:
		return shapeList
	case reflect.Map:
		return shapeTable
	}
	return shapeOther
}

// scalar reports whether a value of the shape is one word.
func (s shape) scalar() bool { return s <= shapeDuration }

// field is a key of a section.
type field struct {
	key, doc         string
	index            []int
	typ              reflect.Type // no pointer
	enum             []string
	min, max         string
	required, secret bool
}

// fieldsOf returns the keys of a struct in their order. Fields without a key, or with "-", are not set from outside.
func fieldsOf(t reflect.Type) []field {
	var list []field
	for _, f := range reflect.VisibleFields(t) {
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == "" || key == "-" {
			continue
		}
		list = append(list, field{
			key: key, doc: f.Tag.Get("doc"), index: f.Index, typ: pointee(f.Type), enum: enumOf(f.Tag.Get("enum")),
			min: f.Tag.Get("min"), max: f.Tag.Get("max"),
			required: f.Tag.Get("required") == "true", secret: f.Tag.Get("secret") == "true",
		})
	}
	return list
}

func enumOf(tag string) []string {
	if tag == "" {
		return nil
	}
	return strings.Split(tag, "|")
}

func pointee(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// fieldNamed returns the field of a key, nil if there is none.
func fieldNamed(fields []field, key string) *field {
	for i := range fields {
		if fields[i].key == key {
			return &fields[i]
		}
	}
	return nil
}

func keysOf(fields []field) []string {
	keys := make([]string, len(fields))
	for i := range fields {
		keys[i] = fields[i].key
	}
	return keys
}

// settle returns what a value points to, made with its defaults if there is nothing yet.
func settle(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Pointer {
		return v
	}
	if v.IsNil() {
		v.Set(fresh(v.Type().Elem()))
	}
	return v.Elem()
}

// fresh returns a pointer to a new value with its defaults.
func fresh(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if d, ok := v.Interface().(interface{ SetDefaults() }); ok {
		d.SetDefaults()
	}
	return v
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
