//go:build linux

package engine

import (
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vouchmq/vouchmq/internal/testkit"
)

// TestMemoryIsReadyAhead lets a linear memory grow: a step that then writes to what lies ahead of it meets no page fault, however
// often it grows, and no more is resident than that.
func TestMemoryIsReadyAhead(t *testing.T) {
	r := reserve(0, 64<<20).(*reservation)
	defer r.Free()
	if err := populate(r.all[:unix.Getpagesize()]); errors.Is(err, unix.EINVAL) {
		t.Skip("this system cannot make pages resident:", err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	size := uint64(1 << 20)
	r.Reallocate(size)
	for _, more := range []uint64{ahead, wasmPage, wasmPage, 3 * wasmPage, ahead, wasmPage} {
		awaitResident(t, r.all[size:size+ahead])
		grown := r.Reallocate(size + more)[size:]
		if n := faults(t, func() { touch(grown) }); n != 0 {
			t.Errorf("%d page faults in the %d bytes from %d on", n, more, size)
		}
		size += more
	}
	if rest := r.all[32<<20:]; slices.Contains(resident(t, rest), true) {
		t.Error("more is resident than was asked for")
	}
	r.Free()
	r.Free() // who closes a core twice is nobody's fault
}

// The whole reservation can be used up to its last byte.
func TestMemoryEndsWithTheReservation(t *testing.T) {
	r := reserve(0, ahead).(*reservation)
	defer r.Free()
	touch(r.Reallocate(ahead - 64<<10))
	touch(r.Reallocate(ahead))
	if b := r.Reallocate(ahead + 1); b != nil {
		t.Errorf("%d bytes of %d", len(b), ahead)
	}
}

// touch writes to all pages.
func touch(b []byte) {
	for i := 0; i < len(b); i += unix.Getpagesize() {
		b[i] = 1
	}
}

// faults counts the page faults of the calling thread in do.
func faults(t *testing.T, do func()) int64 {
	t.Helper()
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &before); err != nil {
		t.Fatal(err)
	}
	do()
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &after); err != nil {
		t.Fatal(err)
	}
	return after.Minflt + after.Majflt - before.Minflt - before.Majflt
}

// resident says of each page whether it is.
func resident(t *testing.T, b []byte) (is []bool) {
	t.Helper()
	pages := make([]byte, len(b)/unix.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal("mincore:", errno)
	}
	for _, p := range pages {
		is = append(is, p&1 != 0)
	}
	return is
}

// awaitResident waits until all pages are resident.
func awaitResident(t *testing.T, b []byte) {
	t.Helper()
	for deadline := time.Now().Add(testkit.Patience); slices.Contains(resident(t, b), false); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("what lies ahead does not become resident")
		}
	}
}
