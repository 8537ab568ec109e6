package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a broker that runs as a process of its own. It is ended with Stop, by its number.
type Process struct {
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when it has ended
}

// StartProcess starts a command. What it prints to standard output and error is written to also, which may be nil,
// and its end is kept for error messages.
func StartProcess(also io.Writer, name string, args ...string) (*Process, error) {
	return StartCommand(also, exec.Command(name, args...))
}

// StartCommand is StartProcess for a command that has more to it than arguments.
func StartCommand(also io.Writer, command *exec.Cmd) (*Process, error) {
	p := &Process{cmd: command, log: &tail{also: also}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	go func() {
		p.cmd.Wait() // how it ended is for Stop and Ended to say
		close(p.done)
	}()
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output is the end of what the process has printed.
func (p *Process) Output() string { return p.log.String() }

// Ended is an error that says that the process has ended, and what it printed last.
func (p *Process) Ended() error {
	return fmt.Errorf("%s ended: %v\n%s", p.cmd.Path, p.cmd.ProcessState, p.Output())
}

const (
	startTime = 60 * time.Second // until a broker listens
	stopTime  = 15 * time.Second // until it has ended
)

// WaitListening returns when something accepts connections on addr, or with an error if the process ends before.
func (p *Process) WaitListening(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("nothing listens on %s:\n%s", addr, p.Output()))
	defer cancel()
	return p.WaitFor(ctx, func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// WaitFor returns when ready does, or with an error if the process or ctx ends before.
func (p *Process) WaitFor(ctx context.Context, ready func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-p.done:
			return p.Ended()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// Signal sends the process a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the process to end, and ends it if it does not. It fails if the process had to be killed or did not
// end with status 0.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.done:
	case <-time.After(stopTime):
		p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not stop within %s", p.cmd.Path, stopTime)
	}
	if !p.cmd.ProcessState.Success() {
		return p.Ended()
	}
	return nil
}

// RSS is the memory of the process that is resident, in bytes.
func (p *Process) RSS() (uint64, error) { return ResidentMemory(p.PID()) }

// ResidentMemory is the memory of any process that is resident, in bytes.
func ResidentMemory(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseRSS(string(b))
}

// parseRSS finds the line "VmRSS: 1234 kB", see proc_pid_status(5).
func parseRSS(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no VmRSS in the process's status: has it ended?")
}

// ProcessorTime is how long processors have worked for the process so far, in the kernel and outside.
func (p *Process) ProcessorTime() (time.Duration, error) { return ProcessorTime(p.PID()) }

// ProcessorTime is how long processors have worked for any process so far, in the kernel and outside.
func ProcessorTime(pid int) (time.Duration, error) { return processorTime(pid) }

// processorTimeOfStat is processorTime in steps of 10 ms, where there is nothing better.
func processorTimeOfStat(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseProcessorTime(string(b))
}

// ticksPerSecond is USER_HZ, which Linux shows to programs everywhere.
const ticksPerSecond = 100

// parseProcessorTime reads utime and stime, fields 14 and 15 of proc_pid_stat(5), in hundredths of a second. The second
// field is a name in parentheses that may contain anything.
func parseProcessorTime(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("the process's stat has too few fields: has it ended?")
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticksPerSecond, errors.Join(err, err2)
}

// tail keeps the last few kilobytes of what is written to it, and the beginning of what a Go program says when it dies: the trace behind
// that can be much longer, and does not tell why.
type tail struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	death []byte // nil until it has died
	also  io.Writer
}

const (
	tailSize  = 8 << 10
	deathSize = 1 << 10
)

// lastWords is how a Go program begins to say why it dies.
var lastWords = regexp.MustCompile(`(?m)^(panic: |fatal error: |SIG[A-Z]+: )`)

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := bytes.LastIndexByte(t.buf.Bytes(), '\n') + 1 // in which b goes on
	t.buf.Write(b)
	t.look(t.buf.Bytes()[line:], b)
	if over := t.buf.Len() - tailSize; over > 0 {
		t.buf.Next(over)
	}
	if t.also != nil {
		return t.also.Write(b)
	}
	return len(b), nil
}

// look looks for last words in b, which goes on in the last of lines, and keeps what comes behind them.
func (t *tail) look(lines, b []byte) {
	if t.death == nil {
		at := lastWords.FindIndex(lines)
		if at == nil {
			return
		}
		b = lines[at[0]:]
	}
	t.death = append(t.death, b[:min(len(b), deathSize-len(t.death))]...)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.death == nil || bytes.Contains(t.buf.Bytes(), t.death) {
		return t.buf.String()
	}
	return string(t.death) + "\n[...]\n" + t.buf.String()
}
