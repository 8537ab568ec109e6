package admin

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// Done is the answer to what changed something: how many things.
type Done struct {
	Count uint32 `json:"count"`
}

func (h *handler) disconnect(ctx context.Context, r *http.Request) (any, string, error) {
	var request DisconnectRequest
	if err := read(r.Body, &request); err != nil {
		return nil, "", err
	}
	a, err := h.ask(ctx, abi.Question{Kind: abi.DoDisconnect, Text: request.ClientID, Arg: uint32(request.Reason)})
	if err == nil && a.Count == 0 {
		err = &Error{NotFound, "no client of that id is connected"}
	}
	return Done{a.Count}, request.ClientID, err
}

func (h *handler) forget(ctx context.Context, r *http.Request) (any, string, error) {
	var request ForgetRequest
	if err := read(r.Body, &request); err != nil {
		return nil, "", err
	}
	a, err := h.ask(ctx, abi.Question{Kind: abi.DoForget, Text: request.ClientID})
	if err == nil && a.Count == 0 {
		err = errNoClient
	}
	return Done{a.Count}, request.ClientID, err
}

// clear removes page by page, so that the core does other work between.
func (h *handler) clear(ctx context.Context, r *http.Request) (any, string, error) {
	var request ClearRequest
	if err := read(r.Body, &request); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reloadTimeout, errSlow)
	defer cancel()
	q := abi.Question{Kind: abi.DoClearRetained, Text: request.Filter, Limit: MaxPage}
	var done Done
	for {
		a, err := h.ask(ctx, q)
		if err != nil {
			return nil, request.Filter, err
		}
		done.Count += a.Count
		if q.Cursor = a.Cursor; q.Cursor == 0 {
			return done, request.Filter, nil
		}
	}
}

// unlock is of no client: addresses are not redacted, and the log has them anyway.
func (h *handler) unlock(_ context.Context, r *http.Request) (any, string, error) {
	var request UnlockRequest
	if err := decode(r.Body, &request); err != nil {
		return nil, "", err
	}
	address, err := netip.ParseAddr(request.Address)
	if err != nil {
		return nil, "", badRequest("%q is no IP address", cut(request.Address))
	}
	was, err := h.Broker.Unlock(address)
	switch {
	case err != nil:
		return nil, "", err
	case !was:
		return nil, "", &Error{Refused, "that address is not locked out"}
	}
	return Done{1}, "", nil
}

// Reloaded is the answer to a reload.
type Reloaded struct {
	Reloaded bool `json:"reloaded"`
}

func (h *handler) reload(ctx context.Context, r *http.Request) (any, string, error) {
	if err := empty(r); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reloadTimeout, errSlow)
	defer cancel()
	return Reloaded{true}, "", h.Broker.Reload(ctx)
}

// Level is what is logged.
type Level struct {
	Level string `json:"level"`
}

var errNoLevel = &Error{Unavailable, "the log level of this broker cannot be changed while it runs"}

func (h *handler) level(_ context.Context, q *query) (any, error) {
	if err := q.end(); err != nil {
		return nil, err
	}
	if h.Level == nil {
		return nil, errNoLevel
	}
	return Level{strings.ToLower(h.Level.Level().String())}, nil
}

func (h *handler) setLevel(_ context.Context, r *http.Request) (any, string, error) {
	var request LevelRequest
	if err := decode(r.Body, &request); err != nil {
		return nil, "", err
	}
	if h.Level == nil {
		return nil, "", errNoLevel
	}
	level, ok := levels()[strings.ToLower(request.Level)]
	if !ok {
		return nil, "", badRequest("log level %q is none of debug, info, warn, error", cut(request.Level))
	}
	h.Level.Set(level)
	return Level{strings.ToLower(request.Level)}, "", nil
}

func levels() map[string]slog.Level {
	return map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
}

// State is the answer to what changes whether a broker runs.
type State struct {
	State string `json:"state"`
}

func (h *handler) drain(ctx context.Context, r *http.Request) (any, string, error) {
	if err := empty(r); err != nil {
		return nil, "", err
	}
	return State{"draining"}, "", h.Broker.Drain(ctx)
}

func (h *handler) stop(_ context.Context, r *http.Request) (any, string, error) {
	var request StopRequest
	if r.ContentLength != 0 {
		if err := decode(r.Body, &request); err != nil {
			return nil, "", err
		}
	}
	if err := request.check(); err != nil {
		return nil, "", err
	}
	h.Broker.Stop(request.Reason, request.Reference)
	return State{"stopping"}, "", nil
}

// empty refuses a body where none is wanted; {} is none.
func empty(r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	var nothing struct{}
	return decode(r.Body, &nothing)
}
