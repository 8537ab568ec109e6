package settings

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Prefix begins the names of variables that set keys.
const Prefix = "VOUCHMQ_"

// slot is a key that can be set with one word: a scalar, or a list of scalars separated by commas.
type slot struct {
	path     string // with elements of lists by number
	alias    string // with elements of lists by name
	variable string
	field    *field
	get      func() reflect.Value // the value, made if it is in an optional section that is not there
	peek     func() reflect.Value // the value, not valid if it is not there
}

// slots returns all keys below v that one word can set: those of sections, and of the elements of lists that have a
// name.
func slots(v reflect.Value) []slot {
	var list []slot
	collect(&list, slot{variable: strings.TrimSuffix(Prefix, "_"), get: func() reflect.Value { return v }, peek: func() reflect.Value { return v }}, v.Type())
	return list
}

// collect adds the slots below at, whose value is of type t.
func collect(list *[]slot, at slot, t reflect.Type) {
	separator := "__"
	if at.path == "" {
		separator = "_"
	}
	for _, f := range fieldsOf(t) {
		below := slot{
			path: join(at.path, f.key), alias: join(at.alias, f.key), field: &f,
			variable: at.variable + separator + variableOf(f.key),
			get:      func() reflect.Value { return settle(at.get().FieldByIndex(f.index)) },
			peek:     func() reflect.Value { return peek(at.peek(), f.index) },
		}
		switch s := shapeOf(f.typ); {
		case s.scalar(), s == shapeList && shapeOf(pointee(f.typ.Elem())).scalar():
			*list = append(*list, below)
		case s == shapeSection:
			collect(list, below, f.typ)
		case s == shapeList:
			collectElements(list, below)
		}
	}
}

// collectElements adds the slots of the elements that a list has. They are called by their names.
func collectElements(list *[]slot, at slot) {
	elements := at.peek()
	if !elements.IsValid() {
		return
	}
	for i := range elements.Len() {
		element := reflect.Indirect(elements.Index(i))
		name, ok := nameOf(element)
		if !ok {
			continue
		}
		collect(list, slot{
			path: fmt.Sprintf("%s[%d]", at.path, i), alias: at.alias + "[" + name + "]",
			variable: at.variable + "__" + variableOf(name),
			get:      func() reflect.Value { return element }, peek: func() reflect.Value { return element },
		}, element.Type())
	}
}

// nameOf returns the name of an element of a list.
func nameOf(element reflect.Value) (string, bool) {
	if element.Kind() != reflect.Struct {
		return "", false
	}
	f := fieldNamed(fieldsOf(element.Type()), "name")
	if f == nil {
		return "", false
	}
	name := element.FieldByIndex(f.index)
	return name.String(), name.Kind() == reflect.String && name.String() != ""
}

// peek returns a field without making anything.
func peek(v reflect.Value, index []int) reflect.Value {
	if !v.IsValid() {
		return v
	}
	f := v.FieldByIndex(index)
	if f.Kind() == reflect.Pointer {
		return f.Elem() // not valid if it is nil
	}
	return f
}

// variableOf returns how a key or a name is written in a variable.
func variableOf(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '_'
	}, key)
}

// set parses a word into the slot.
func (s *slot) set(word string) error {
	v := s.get()
	if shapeOf(v.Type()).scalar() {
		return setScalar(v, s.field, word)
	}
	list := reflect.MakeSlice(v.Type(), 0, 0)
	for part := range strings.SplitSeq(word, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		element := reflect.New(v.Type().Elem()).Elem()
		if err := setScalar(element, s.field, part); err != nil {
			return err
		}
		list = reflect.Append(list, element)
	}
	v.Set(list)
	return nil
}

// environment carries out the variables. One that sets nothing is a problem: it was meant to.
func (s *Settings) environment(root reflect.Value, environ, ignored []string) {
	all := slots(root)
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, Prefix) || slices.Contains(ignored, name) {
			continue
		}
		origin := Origin{Where: FromEnvironment, Name: name}
		i := slices.IndexFunc(all, func(s slot) bool { return s.variable == name })
		if i < 0 {
			s.add(Problem{Origin: origin, Text: "no key has this variable" + didYouMean(name, variables(all))})
			continue
		}
		s.set(all[i], value, origin)
	}
}

func variables(slots []slot) []string {
	names := make([]string, len(slots))
	for i := range slots {
		names[i] = slots[i].variable
	}
	return names
}
