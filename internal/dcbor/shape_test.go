package dcbor_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

// Lengths and numbers around those where the head of an item grows.
var around = []uint64{0, 1, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64}

func TestPiecesAreEncodedAsByTheGeneralEncoder(t *testing.T) {
	check := func(have []byte, value any) {
		t.Helper()
		if want, err := dcbor.Encode(value); err != nil || !bytes.Equal(have, want) {
			t.Errorf("%v: %x instead of %x (%v)", value, have, want, err)
		}
	}
	for _, n := range around {
		check(dcbor.AppendUint(nil, n), n)
		check(dcbor.AppendInt(nil, int64(n)), int64(n))
		if n <= 65536 {
			check(dcbor.AppendBytes(nil, make([]byte, n)), make([]byte, n))
			check(dcbor.AppendText(nil, string(make([]byte, n))), string(make([]byte, n)))
		}
	}
	check(dcbor.AppendBytes(nil, nil), []byte(nil))
	check(dcbor.AppendUint(dcbor.AppendUint(dcbor.AppendArray(nil, 2), 1), 2), []int{1, 2})
	check(dcbor.AppendUint(dcbor.AppendText(dcbor.AppendMap(nil, 1), "a"), 2), map[string]int{"a": 2})
}

// FuzzReader: whatever is asked for, the reader accepts what the general decoder does, and gives the same.
func FuzzReader(f *testing.F) {
	for _, n := range around {
		f.Add(dcbor.AppendUint(nil, n))
		f.Add(dcbor.AppendInt(nil, int64(n)))
	}
	f.Add(dcbor.AppendBytes(nil, nil))
	f.Add(dcbor.AppendBytes(nil, make([]byte, 300)))
	f.Add(dcbor.AppendText(nil, "é"))
	f.Add([]byte{0x58, 3, 1, 2, 3})                // not the shortest head
	f.Add([]byte{0x63, 'a', 'b', 0xff})            // not UTF-8
	f.Add([]byte{0x5f, 0x41, 1, 0xff})             // of indefinite length
	f.Add([]byte{0x5b, 0x7f, 0xff, 0, 0})          // cut short in its head
	f.Add([]byte{0x5a, 0xff, 0, 0, 0, 1})          // longer than what comes
	f.Add([]byte{0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0}) // too negative
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		same(t, data, (*dcbor.Reader).Uint, func(a, b uint64) bool { return a == b })
		same(t, data, (*dcbor.Reader).Int, func(a, b int64) bool { return a == b })
		same(t, data, (*dcbor.Reader).Bytes, func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) })
		same(t, data, (*dcbor.Reader).Text, func(a, b string) bool { return a == b })
	}))
}

// same reads data as one item, and compares that with the general decoder.
func same[T any](t *testing.T, data []byte, read func(*dcbor.Reader) T, equal func(a, b T) bool) {
	t.Helper()
	r := dcbor.NewReader(data)
	have := read(r)
	var want T
	err := dcbor.Decode(data, &want)
	if accepted := r.Done(); accepted != (err == nil) || accepted && !equal(have, want) {
		t.Errorf("%x as %T: read is %v as %v; the general decoder says %v, %v", data, have, accepted, have, want, err)
	}
}

// A reader that has failed stays so, whatever it is asked then.
func TestReaderStaysFailed(t *testing.T) {
	fails := map[string]func(*dcbor.Reader){
		"key":   func(r *dcbor.Reader) { r.Key(2) },
		"name":  func(r *dcbor.Reader) { r.Name("a") },
		"count": func(r *dcbor.Reader) { r.Count(r.Uint(), 2) },
		"fill":  func(r *dcbor.Reader) { r.Fill(make([]byte, 1)) },
		"map":   func(r *dcbor.Reader) { r.Map() },
		"array": func(r *dcbor.Reader) { r.Array() },
		"left":  func(*dcbor.Reader) {},
	}
	for name, fail := range fails {
		r := dcbor.NewReader([]byte{1, 1, 1})
		fail(r)
		if r.Uint(); r.Done() {
			t.Errorf("%s: the reader is content", name)
		}
		if name != "left" && (r.Bytes() != nil || r.Text() != "" || r.Null() || r.NextIsName("")) {
			t.Errorf("%s: reads on after a failure", name)
		}
	}
}
