package auth

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/internal/guard"
)

const (
	defaultRefresh = time.Hour
	soonest        = time.Minute // between two attempts to fetch
	fetchTimeout   = 10 * time.Second
)

// remoteConfig is what a set of remote keys depends on: if it is the same after a reload, the set is kept.
type remoteConfig struct {
	url, ca, caText string
	refresh         time.Duration
}

// remoteKeys fetches a JWK set now and again. When it cannot be fetched, the last good one stays.
type remoteKeys struct {
	config  remoteConfig
	client  *http.Client
	clock   guard.Clock
	trouble *nowAndThen

	current atomic.Pointer[namedKeys] // nil: none has been fetched yet
	turn    turns                     // one fetches at a time
	last    time.Time                 // of the last attempt; with turn

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

func openRemoteKeys(c *JWT, a *Authenticator, old *state) (*remoteKeys, error) {
	config := remoteConfig{url: c.URL, ca: c.CA, refresh: c.Refresh}
	if c.CA != "" {
		text, err := readFile(c.CA, maxKeyFile)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		config.caText = string(text)
	}
	if config.refresh == 0 {
		config.refresh = defaultRefresh
	}
	for _, k := range old.keySets() {
		if k.config == config {
			return k, nil
		}
	}
	client, err := httpClient(tlsFiles{ca: c.CA}, fetchTimeout, 1)
	if err != nil {
		return nil, err
	}
	r := &remoteKeys{
		config: config, client: client, clock: a.clock, trouble: newNowAndThen(a.log, a.clock),
		turn: newTurns(1), done: make(chan struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	go r.run()
	return r, nil
}

// close ends the fetching, and waits for it.
func (r *remoteKeys) close() {
	r.cancel()
	<-r.done
	r.client.CloseIdleConnections()
}

func (r *remoteKeys) run() {
	defer close(r.done)
	for r.ctx.Err() == nil {
		wait := r.config.refresh
		if !r.refresh(r.ctx, r.current.Load()) {
			wait = soonest
		}
		r.clock.Wait(r.ctx, wait)
	}
}

// known returns the last good keys, nil if there are none yet.
func (r *remoteKeys) known() keys {
	if k := r.current.Load(); k != nil {
		return k
	}
	return nil
}

// newer fetches the keys unless there are others than those seen already, or somebody has just tried. It returns the
// last good ones, nil if there are none.
func (r *remoteKeys) newer(ctx context.Context, seen keys) keys {
	was, _ := seen.(*namedKeys)
	r.refresh(ctx, was)
	return r.known()
}

// refresh fetches the keys, if those seen are still the current ones and the last attempt was long enough ago. It tells
// whether there is nothing to repair.
func (r *remoteKeys) refresh(ctx context.Context, seen *namedKeys) bool {
	if !r.turn.take(ctx) {
		return false
	}
	defer r.turn.give()
	now := r.clock.Now()
	if r.current.Load() != seen || !r.last.IsZero() && now.Sub(r.last) < soonest {
		return r.current.Load() != nil
	}
	r.last = now
	fresh, err := r.fetch()
	if err != nil {
		if r.ctx.Err() == nil {
			r.trouble.warn("the keys for tokens cannot be fetched", "url", r.config.url, "have_older", seen != nil, "error", err)
		}
		return false
	}
	r.current.Store(fresh)
	return true
}

// fetch does so for everybody: it does not end with the connection of the client that made it necessary.
func (r *remoteKeys) fetch() (*namedKeys, error) {
	request, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.config.url, nil)
	if err != nil {
		return nil, err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the status is %d, not 200", response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxKeyFile)
	}
	k, err := parseJWKs(text)
	if err != nil {
		return nil, err
	}
	return k.(*namedKeys), nil
}
