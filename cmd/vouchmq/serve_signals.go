package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/systemd"
)

// serveUntilSignal waits for the end of ctx and stops the broker. Until then it prints statistics whenever SIGUSR1 asks
// for them, reloads the configuration at SIGHUP, both of which come over asked, watches certificates, and keeps the service manager informed.
func serveUntilSignal(ctx context.Context, asked <-chan os.Signal, out io.Writer, broker *server.Server, keeper *server.Keeper,
	manager systemd.Notifier) error {
	var tasks sync.WaitGroup
	watching, cancel := context.WithCancel(ctx)
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { keeper.Run(watching) })
	tasks.Go(func() {
		manager.Watch(watching, func(ctx context.Context) error { _, err := broker.Stats(ctx); return err })
	})
	manager.Ready()
	if err := handleSignals(ctx, asked, out, broker, keeper, manager); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGHUP, local.StatsSignal) // they would end the process in the middle of its farewell
	manager.Stopping()
	return errors.Join(printStats(out, broker), broker.Shutdown(context.WithoutCancel(ctx)))
}

// handleSignals does what signals ask for, until ctx ends.
func handleSignals(ctx context.Context, asked <-chan os.Signal, out io.Writer, broker *server.Server, keeper *server.Keeper,
	manager systemd.Notifier) error {
	for {
		select {
		case s := <-asked:
			if s == syscall.SIGHUP {
				manager.Reloading()
				_ = keeper.Reload(ctx) // is in the log, and the old configuration in force
				manager.Ready()
				continue
			}
			if err := printStats(out, broker); err != nil {
				return err
			}
		case <-broker.Stopped():
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// printStats prints one line, see package local.
func printStats(out io.Writer, broker *server.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := broker.Stats(ctx)
	if err != nil {
		return err
	}
	line, err := json.Marshal(local.Stats{
		Engine: s.Engine.Kind, Steps: s.Engine.Steps, LongestStepSeconds: s.Engine.LongestStep.Seconds(), BusiestStepSeconds: s.Engine.BusiestStep.Seconds(),
		Restarts: s.Engine.Restarts, Connections: s.Transport.Connections, Accepted: s.Transport.Accepted,
		FailedHandshakes: s.Transport.FailedHandshakes, DroppedQoS0: s.Transport.DroppedQoS0 + s.Core.DroppedQoS0,
		DroppedQueue: s.Core.DroppedQueue, Stalled: s.Transport.Stalled, Overflowed: s.Transport.Overflowed,
		Received: s.Core.Received, Sent: s.Core.Sent, Sessions: s.Core.Sessions, MessageBytes: s.Core.MessageBytes,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s%s\n", local.StatsPrefix, line)
	return err
}
