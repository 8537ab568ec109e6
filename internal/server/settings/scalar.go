package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setScalar parses one word into v. The error says what is wrong with the word.
func setScalar(v reflect.Value, f *field, word string) error {
	if len(f.enum) > 0 && !slices.Contains(f.enum, word) {
		return fmt.Errorf("%q is not known: use %s", short(word), alternatives(f.enum))
	}
	parsed := reflect.New(v.Type()).Elem()
	if err := parseWord(parsed, word); err != nil {
		return err
	}
	if err := f.bounds(parsed); err != nil {
		return err
	}
	v.Set(parsed)
	return nil
}

// alternatives returns "a, b or c".
func alternatives(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func parseWord(v reflect.Value, word string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(word))
	}
	switch shapeOf(v.Type()) {
	case shapeText:
		v.SetString(word)
		return nil
	case shapeBool:
		return parseBool(v, word)
	case shapeDuration:
		d, err := time.ParseDuration(word)
		if err != nil {
			return fmt.Errorf("%q is not a time: write 10s, 5m or 1h30m", short(word))
		}
		v.SetInt(int64(d))
		return nil
	}
	return parseNumber(v, word)
}

func parseBool(v reflect.Value, word string) error {
	if word != "true" && word != "false" {
		return fmt.Errorf("%q is neither true nor false", short(word))
	}
	v.SetBool(word == "true")
	return nil
}

func parseNumber(v reflect.Value, word string) error {
	var err error
	switch shapeOf(v.Type()) {
	case shapeInt:
		var n int64
		n, err = strconv.ParseInt(word, 0, v.Type().Bits())
		v.SetInt(n)
	case shapeUint:
		var n uint64
		n, err = strconv.ParseUint(word, 0, v.Type().Bits())
		v.SetUint(n)
	case shapeFloat:
		var n float64
		n, err = strconv.ParseFloat(word, 64)
		v.SetFloat(n)
	default:
		return fmt.Errorf("values of this key cannot be written as one word")
	}
	if err != nil {
		return fmt.Errorf("%q is not a whole number from %s to %s", short(word), least(v), most(v))
	}
	return nil
}

func least(v reflect.Value) string {
	if shapeOf(v.Type()) == shapeInt {
		return strconv.FormatInt(-1<<(v.Type().Bits()-1), 10)
	}
	return "0"
}

func most(v reflect.Value) string {
	bits := v.Type().Bits()
	if shapeOf(v.Type()) == shapeInt {
		bits--
	}
	return strconv.FormatUint(1<<bits-1, 10)
}

// bounds compares a value with min and max of its tag.
func (f *field) bounds(v reflect.Value) error {
	if f.min != "" && less(v, f.min) {
		return fmt.Errorf("%v is less than %s", v.Interface(), f.min)
	}
	if f.max != "" && more(v, f.max) {
		return fmt.Errorf("%v is more than %s", v.Interface(), f.max)
	}
	return nil
}

func less(v reflect.Value, bound string) bool { return compare(v, bound) < 0 }
func more(v reflect.Value, bound string) bool { return compare(v, bound) > 0 }

// compare compares a number with a bound, which a test has parsed before.
func compare(v reflect.Value, bound string) int {
	limit := reflect.New(v.Type()).Elem()
	if parseWord(limit, bound) != nil {
		return 0
	}
	switch {
	case v.CanInt():
		return sign(v.Int() < limit.Int(), v.Int() > limit.Int())
	case v.CanUint():
		return sign(v.Uint() < limit.Uint(), v.Uint() > limit.Uint())
	}
	return sign(v.Float() < limit.Float(), v.Float() > limit.Float())
}

func sign(less, more bool) int {
	switch {
	case less:
		return -1
	case more:
		return 1
	}
	return 0
}

// short cuts what somebody wrote to what an error can bear.
func short(word string) string {
	const longest = 64
	if len(word) > longest {
		return word[:longest] + "..."
	}
	return word
}
