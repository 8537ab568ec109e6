package bench

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/pprof"
	"slices"
)

// profileCount is how many of a profile's samples were taken while certain functions ran, or what they called.
type profileCount struct{ within, all int64 }

func (c *profileCount) add(d profileCount) { c.within, c.all = c.within+d.within, c.all+d.all }

// share is 0 where there is no sample.
func (c profileCount) share() float64 {
	if c.all == 0 {
		return 0
	}
	return float64(c.within) / float64(c.all)
}

// profiled runs f, and counts by a profile of the whole process how much of the processor time some functions took.
func profiled(functions []string, f func() error) (profileCount, error) {
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil {
		return profileCount{}, err
	}
	err := f()
	pprof.StopCPUProfile()
	if err != nil {
		return profileCount{}, err
	}
	packed, err := gzip.NewReader(&b)
	if err != nil {
		return profileCount{}, fmt.Errorf("profile: %w", err)
	}
	text, err := io.ReadAll(packed)
	if err != nil {
		return profileCount{}, fmt.Errorf("profile: %w", err)
	}
	return countWithin(text, functions)
}

// Numbers of fields of a profile (github.com/google/pprof, profile.proto).
const (
	profileSample, profileLocation, profileFunction, profileString = 2, 4, 5, 6

	sampleLocations, sampleValues = 1, 2 // the first value is the number of samples
	locationID, locationLine      = 1, 4
	lineFunction                  = 1
	functionID, functionName      = 1, 2
)

// countWithin counts the samples of a profile with one of the functions in their stack.
func countWithin(text []byte, functions []string) (c profileCount, err error) {
	var p profile
	if err := p.read(text); err != nil {
		return c, err
	}
	within, err := p.locationsOf(functions)
	if err != nil {
		return c, err
	}
	for _, s := range p.samples {
		stack, values := repeated(s, sampleLocations), repeated(s, sampleValues)
		if len(values) == 0 {
			continue
		}
		c.all += int64(values[0])
		if slices.ContainsFunc(stack, func(l uint64) bool { return within[l] }) {
			c.within += int64(values[0])
		}
	}
	return c, nil
}

// profile is what counts of a profile: messages, and the strings that they refer to.
type profile struct {
	samples, locations, functions [][]byte
	strings                       []string
}

func (p *profile) read(text []byte) error {
	return fields(text, func(number int, _ uint64, text []byte) error {
		switch number {
		case profileSample:
			p.samples = append(p.samples, text)
		case profileLocation:
			p.locations = append(p.locations, text)
		case profileFunction:
			p.functions = append(p.functions, text)
		case profileString:
			p.strings = append(p.strings, string(text))
		}
		return nil
	})
}

// locationsOf returns the places in functions of these names, by their numbers. One place has several functions where one is inlined in another.
func (p *profile) locationsOf(names []string) (map[uint64]bool, error) {
	wanted := map[uint64]bool{} // functions
	for _, f := range p.functions {
		name := first(f, functionName)
		wanted[first(f, functionID)] = name < uint64(len(p.strings)) && slices.Contains(names, p.strings[name])
	}
	within := map[uint64]bool{}
	for _, l := range p.locations {
		err := fields(l, func(number int, _ uint64, line []byte) error {
			if number == locationLine && wanted[first(line, lineFunction)] {
				within[first(l, locationID)] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return within, nil
}

var errProfile = errors.New("profile is not one of protocol buffers")

// fields reads a message of protocol buffers: calls f with each field's number, and its number or bytes.
func fields(b []byte, f func(number int, value uint64, text []byte) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return errProfile
		}
		b = b[n:]
		value, n := binary.Uvarint(b)
		if n <= 0 {
			return errProfile
		}
		b = b[n:]
		var text []byte
		switch key & 7 {
		case 0:
		case 2:
			if value > uint64(len(b)) {
				return errProfile
			}
			text, b = b[:value], b[value:]
		default: // profiles have no others
			return errProfile
		}
		if err := f(int(key>>3), value, text); err != nil {
			return err
		}
	}
	return nil
}

// first is a number in a message, 0 if it is not there.
func first(message []byte, number int) (value uint64) {
	_ = fields(message, func(n int, v uint64, _ []byte) error { // what cannot be read has no such number
		if n == number && value == 0 {
			value = v
		}
		return nil
	})
	return value
}

// repeated are numbers in a message, packed or not.
func repeated(message []byte, number int) (all []uint64) {
	_ = fields(message, func(n int, v uint64, text []byte) error { // the same
		if n == number && text == nil {
			all = append(all, v)
		}
		for ; n == number && len(text) > 0; text = text[max(1, binaryLength(text)):] {
			v, _ := binary.Uvarint(text)
			all = append(all, v)
		}
		return nil
	})
	return all
}

func binaryLength(b []byte) int {
	_, n := binary.Uvarint(b)
	return n
}
