package settings

import (
	"fmt"
	"reflect"
	"strings"
)

// Flag is a flag that was given and stands for a key.
type Flag struct {
	Path  string // of the key; an element of a list by its name, such as listeners[plain].address
	Name  string // with its dashes, for errors
	Value string
}

// Source is all that settings are read from.
type Source struct {
	Name    string   // of the file; "" is no file
	Text    []byte   // of the file
	Base    File     // the defaults
	Environ []string // as os.Environ returns it; other variables than VOUCHMQ_ are not looked at
	Ignored []string // variables that begin with VOUCHMQ_ and are of other commands
	Flags   []Flag
	// Optional are keys that are not required here, since the base stands for them.
	Optional []string
}

// Settings is a File with the origin of each value.
type Settings struct {
	File
	origins  map[string]Origin
	problems Problems
	source   string
}

// Read reads settings. The error is of type Problems; what could be read is returned with it.
func Read(source Source) (*Settings, error) {
	s := &Settings{File: source.Base, origins: map[string]Origin{}, source: source.Name}
	root := reflect.ValueOf(&s.File).Elem()
	if source.Name != "" {
		d := &decoder{settings: s, name: source.Name}
		d.decode(source.Text, root)
	}
	if len(s.problems) == 0 || len(s.origins) > 0 { // a file that is no YAML says nothing about what is missing
		s.environment(root, source.Environ, source.Ignored)
		s.flags(root, source.Flags)
		s.required(root, source.Optional)
		s.check()
	}
	s.problems.Sort()
	return s, s.problems.Err()
}

func (s *Settings) add(p Problem) { s.problems = append(s.problems, p) }

// Origin returns where the value of a key came from. A key below one that was given as a whole has its origin.
func (s *Settings) Origin(path string) Origin {
	for path != "" {
		if o, ok := s.origins[path]; ok {
			return o
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return Origin{}
}

// exactly returns where a value came from, the default if nothing has set it.
func (s *Settings) exactly(path string) Origin { return s.origins[path] }

// Problem returns a problem with the value of a key, for whoever uses it. cause may be nil.
func (s *Settings) Problem(path string, cause error, format string, args ...any) Problem {
	o := s.Origin(path)
	if o.Where == FromDefault && s.source != "" {
		o = Origin{Where: FromFile, Name: s.source}
	}
	return Problem{Origin: o, Path: path, Text: fmt.Sprintf(format, args...), Cause: cause}
}

// required notes what the file as a whole lacks.
func (s *Settings) required(root reflect.Value, optional []string) {
	for _, f := range fieldsOf(root.Type()) {
		if f.required && root.FieldByIndex(f.index).IsZero() && !contains(optional, f.key) && !s.complained(f.key) {
			s.add(s.Problem(f.key, nil, "it is missing: %s", f.doc))
		}
	}
}

// complained reports whether there is a problem with a key already.
func (s *Settings) complained(path string) bool {
	for _, p := range s.problems {
		if strings.HasPrefix(p.Path, path) {
			return true
		}
	}
	return false
}

func contains(list []string, word string) bool {
	for _, w := range list {
		if w == word {
			return true
		}
	}
	return false
}

// flags carries out the flags, which count more than all else.
func (s *Settings) flags(root reflect.Value, flags []Flag) {
	for _, g := range flags {
		origin := Origin{Where: FromFlag, Name: g.Name}
		slot, ok := findSlot(root, g.Path)
		if !ok {
			s.add(Problem{Origin: origin, Path: g.Path, Text: "there is nothing that it could set"})
			continue
		}
		s.set(slot, g.Value, origin)
	}
}

func findSlot(root reflect.Value, path string) (slot, bool) {
	for _, slot := range slots(root) {
		if slot.alias == path {
			return slot, true
		}
	}
	return slot{}, false
}

// set parses a word into a slot.
func (s *Settings) set(slot slot, word string, origin Origin) {
	if err := slot.set(word); err != nil {
		s.add(Problem{Origin: origin, Path: slot.path, Text: err.Error()})
		return
	}
	s.origins[slot.path] = origin
}
