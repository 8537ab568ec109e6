package engine

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"
)

// ExitHung is the exit status of a process whose module did not come back from a step (EX_SOFTWARE).
const ExitHung = 70

// watchdog looks from outside whether steps come back.
type watchdog struct {
	quit, done chan struct{}
}

// lookEvery is how often the watchdog looks, at least.
const lookEvery = 250 * time.Millisecond

// deadmanBudget is the processor time that the process may use between two looks of the watchdog: what a
// step may take, and what all processors can use while the watchdog is four times late.
func deadmanBudget(hung time.Duration) time.Duration {
	return hung + time.Duration(runtime.NumCPU())*4*lookEvery
}

func startWatchdog(m *metrics, config Config) *watchdog {
	w := &watchdog{quit: make(chan struct{}), done: make(chan struct{})}
	budget := deadmanBudget(config.HungStep)
	kernel := armDeadman(budget) // before the first step: a hang may keep the goroutine from starting
	go w.run(m, config, kernel, budget)
	return w
}

func (w *watchdog) stop() {
	close(w.quit)
	<-w.done
}

func (w *watchdog) run(m *metrics, config Config, kernel *deadman, budget time.Duration) {
	defer close(w.done)
	defer kernel.disarm()
	ticker := time.NewTicker(min(config.HungStep/4, lookEvery))
	defer ticker.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-ticker.C:
		}
		kernel.rearm(budget)
		if running := m.runningFor(); running > config.HungStep {
			config.Hung(running)
		}
	}
}

// exitHung ends the process: there is no way to stop the goroutine that runs the module, and the next
// collection of garbage would freeze all others with it.
func exitHung(log *slog.Logger) func(time.Duration) {
	return func(running time.Duration) {
		const text = "the broker's module hangs and cannot be interrupted; the process ends, start it again"
		log.Error(text, "running", running)
		fmt.Fprintf(os.Stderr, "vouchmq: %s (step running for %v)\n", text, running.Round(time.Millisecond))
		os.Exit(ExitHung)
	}
}
