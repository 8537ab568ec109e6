package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/client"
)

// bundleHint says where bundles come from.
const bundleHint = "ask the owner of the broker for a bundle; vouchmq serve writes one for a broker of your own"

// attestedBroker is the broker of a bundle, which may be read anew from its file.
type attestedBroker struct {
	path    string
	bundle  atomic.Pointer[client.Bundle]
	options client.Options // Address is not among them

	mu   sync.Mutex
	seen fileMark // of the file when it was read last
}

// fileMark tells one state of a file from another.
type fileMark struct {
	size     int64
	modified time.Time
}

// markOf is the zero value for a file that cannot be looked at.
func markOf(path string) fileMark {
	info, err := os.Stat(path)
	if err != nil {
		return fileMark{}
	}
	return fileMark{info.Size(), info.ModTime()}
}

// openAttestedBroker reads a bundle that has not expired.
func openAttestedBroker(path string) (*attestedBroker, error) {
	b := &attestedBroker{path: path, seen: markOf(path)}
	bundle, err := client.ReadBundle(path)
	if err != nil {
		return nil, withHint(err, bundleHint)
	}
	if err := bundle.CheckTime(time.Now()); err != nil {
		return nil, err
	}
	b.bundle.Store(bundle)
	return b, nil
}

// reload reads the bundle anew. One that may not take the place of the one before, by the rules of vouchmq bundle update, is left
// where it is: whoever means it starts anew.
func (b *attestedBroker) reload() error {
	fresh, err := client.ReadBundle(b.path)
	if err == nil {
		err = fresh.Succeeds(b.bundle.Load())
	}
	if err == nil {
		err = fresh.CheckTime(time.Now())
	}
	if err != nil {
		return err
	}
	b.bundle.Store(fresh)
	return nil
}

// reappraise judges the broker at the other end of a connection by the bundle that is in force.
func (b *attestedBroker) reappraise(conn *atls.Conn) *client.Verdict {
	return b.bundle.Load().Reappraise(conn, b.options)
}

// watchBundle is how often the file of a bundle is looked at.
const watchBundle = 2 * time.Second

// watch reads the bundle anew when its file has changed, and says so on renewed, until ctx ends.
func (b *attestedBroker) watch(ctx context.Context, renewed chan<- struct{}, notice func(string)) {
	ticks := time.NewTicker(watchBundle)
	defer ticks.Stop()
	in := b.bundle.Load()
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		b.refresh(notice)
		if now := b.bundle.Load(); now != in {
			in = now
			select {
			case renewed <- struct{}{}:
			default: // it will be looked at soon
			}
		}
	}
}

// refresh reads the bundle anew if its file has changed, and says so. A file that is not there may come back.
func (b *attestedBroker) refresh(notice func(string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	mark := markOf(b.path)
	if mark == b.seen || mark == (fileMark{}) {
		return
	}
	b.seen = mark
	err := b.reload()
	switch {
	case notice == nil:
	case err != nil:
		notice(fmt.Sprintf("the bundle is not taken over; the one before stays in force: %v", err))
	default:
		notice(fmt.Sprintf("bundle read anew: %s, number %d", b.path, b.bundle.Load().Serial))
	}
}
