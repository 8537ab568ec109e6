package engine

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deadman is a timer of the kernel that kills the process unless it is set anew again and again.
//
// When a collection begins while a step hangs, every goroutine stops, the watchdog's too: the collector waits
// for a thread that runs compiled WebAssembly and has no safepoint. Only the kernel can act then. The timer
// sends SIGQUIT, on which the Go runtime, inside its signal handler and without any goroutine, says so and
// ends the process (with a trace, unless the signal meets the thread that hangs, whose stack it cannot read).
// It counts the processor time of the process, so a process that
// is suspended, or that gets no processor, is not killed for it; a step that hangs burns processor time.
type deadman struct {
	timer int32
	armed bool
}

// sigevent is struct sigevent of the kernel for 64-bit machines, of which only the first fields are used.
type sigevent struct {
	value  uint64
	signo  int32
	notify int32
	_      [48]byte
}

// armDeadman makes the timer. Where the kernel has none (some library systems inside TEEs), the watchdog's
// goroutine is all there is.
func armDeadman(after time.Duration) *deadman {
	d := &deadman{}
	event := sigevent{signo: int32(unix.SIGQUIT)} // notify 0 is SIGEV_SIGNAL
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_PROCESS_CPUTIME_ID,
		uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&d.timer)))
	d.armed = errno == 0
	d.rearm(after)
	return d
}

// itimerspec is struct itimerspec of the kernel.
type itimerspec struct {
	interval, value unix.Timespec
}

// rearm sets the timer anew.
func (d *deadman) rearm(after time.Duration) {
	if !d.armed {
		return
	}
	spec := itimerspec{value: unix.NsecToTimespec(int64(after))}
	_, _, _ = unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(d.timer), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}

func (d *deadman) disarm() {
	if d.armed {
		_, _, _ = unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(d.timer), 0, 0)
		d.armed = false
	}
}
