package settings

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Where tells what kind of place a value came from.
type Where uint8

// The places, in the order in which they count.
const (
	FromDefault Where = iota
	FromFile
	FromEnvironment
	FromFlag
)

// Origin is where a value came from.
type Origin struct {
	Where        Where
	Name         string // of the file, the variable or the flag
	Line, Column int    // in the file, from 1; 0 is the file as a whole
}

// String returns FILE:LINE:COLUMN, the name of a variable or flag, or "default".
func (o Origin) String() string {
	switch {
	case o.Where == FromDefault:
		return "default"
	case o.Where == FromFile && o.Line > 0:
		return fmt.Sprintf("%s:%d:%d", o.Name, o.Line, o.Column)
	}
	return o.Name
}

// Problem is one thing that is wrong with the settings, with its place.
type Problem struct {
	Origin Origin
	Path   string // of the key, such as listeners[0].address; "" if it is about no key
	Text   string
	Cause  error // what was found wrong elsewhere, such as in a file that is named; may be nil
}

// Error says place, key and what is wrong.
func (p Problem) Error() string {
	text := p.Text
	if p.Path != "" {
		text = p.Path + ": " + text
	}
	if p.Origin.Where == FromDefault {
		return text
	}
	return p.Origin.String() + ": " + text
}

// Unwrap returns the cause.
func (p Problem) Unwrap() error { return p.Cause }

// Problems is all that is wrong.
type Problems []Problem

// Error has a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems.
func (p Problems) Unwrap() []error {
	errs := make([]error, len(p))
	for i := range p {
		errs[i] = p[i]
	}
	return errs
}

// Sort puts the problems into the order in which a reader of the file meets them.
func (p Problems) Sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Origin.Where, b.Origin.Where), cmp.Compare(a.Origin.Line, b.Origin.Line), cmp.Compare(a.Origin.Column, b.Origin.Column))
	})
}

// Err returns the problems as an error, nil if there are none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// ErrSettings is what errors.Is finds in what Read returns.
var ErrSettings = errors.New("settings are wrong")

// Is makes every list of problems an ErrSettings.
func (p Problems) Is(target error) bool { return target == ErrSettings }
