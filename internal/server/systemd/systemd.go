// Package systemd tells a service manager how the broker is, and takes over the sockets that it has opened. Without
// one, nothing here does anything.
//
// The protocols are those of sd_notify(3) and sd_listen_fds(3).
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Sockets returns the listeners that were passed, by the names that FileDescriptorName= gives them. It works once.
func Sockets() (map[string][]net.Listener, error) {
	byName, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("sockets passed by systemd: %w", err)
	}
	for name, list := range byName {
		for _, l := range list {
			if l == nil {
				return nil, fmt.Errorf("socket %q passed by systemd is none that accepts connections (use ListenStream=)", name)
			}
		}
	}
	return byName, nil
}

// Notifier tells the service manager.
type Notifier struct {
	Log *slog.Logger
}

// Ready says that clients are welcome, at the start and after a reload.
func (n Notifier) Ready() { n.send(daemon.SdNotifyReady) }

// Reloading says that a reload begins. Ready must follow.
func (n Notifier) Reloading() {
	n.send(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping says that the end has begun.
func (n Notifier) Stopping() { n.send(daemon.SdNotifyStopping) }

// Status shows a line in `systemctl status`.
func (n Notifier) Status(text string) { n.send("STATUS=" + text) }

func (n Notifier) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.Log.Warn("the service manager could not be told", "error", err)
	}
}

// Watch tells the service manager, twice in the time that it allows, that the broker works, as long as alive says so,
// until ctx ends. alive is given a quarter of that time. Once it fails nothing is told, and if that does not get
// better, the service manager ends the process and starts it anew.
func (n Notifier) Watch(ctx context.Context, alive func(context.Context) error) {
	allowed, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.Log.Warn("the service manager's watchdog is not used", "error", err)
	}
	if allowed <= 0 {
		return
	}
	tick := time.NewTicker(allowed / 2)
	defer tick.Stop()
	for {
		n.check(ctx, alive, allowed/4)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (n Notifier) check(ctx context.Context, alive func(context.Context) error, within time.Duration) {
	asking, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := alive(asking)
	if err == nil {
		n.send(daemon.SdNotifyWatchdog)
		return
	}
	if ctx.Err() == nil {
		n.Log.Error("the broker core does not answer; the service manager's watchdog is not told that all is well", "error", err)
	}
}
