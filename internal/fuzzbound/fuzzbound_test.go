package fuzzbound

import (
	"fmt"
	"strings"
	"testing"
)

// recorder takes the place of a test that may fail.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// kept keeps what is allocated from being on the stack.
var kept []byte

func TestCheck(t *testing.T) {
	const size = 1000
	for _, c := range []struct {
		allocate int
		refused  bool
	}{
		{0, false},
		{Constant, false},
		{Constant + Factor*size + 1, true},
		{16 << 20, true},
	} {
		r := &recorder{TB: t}
		Check(r, size, func() { kept = make([]byte, c.allocate) })
		if refused := len(r.failures) > 0; refused != c.refused {
			t.Errorf("%d bytes: %v", c.allocate, r.failures)
		}
		if c.refused && !strings.Contains(r.failures[0], "an input of 1000 bytes allocates") {
			t.Error(r.failures[0])
		}
	}
}

func TestCheckTakesTheLeast(t *testing.T) {
	r, calls := &recorder{TB: t}, 0
	Check(r, 0, func() {
		if calls++; calls < tries { // as if somebody else had allocated
			kept = make([]byte, 2*Constant)
		}
	})
	if len(r.failures) > 0 || calls != tries {
		t.Errorf("%d calls, %v", calls, r.failures)
	}
}

func TestTargets(t *testing.T) {
	var got string
	Of(func(_ *testing.T, data []byte) { got += string(data) })(t, []byte("a"))
	OfTwo(func(_ *testing.T, a, b []byte) { got += string(a) + string(b) })(t, []byte("b"), []byte("c"))
	if got != "abc" {
		t.Errorf("called with %q", got)
	}
}
