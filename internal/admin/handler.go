package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// Options are what a Server needs. Only Broker must be set.
type Options struct {
	Broker Broker
	Level  *slog.LevelVar           // what the log-level path shows and changes; nil: it cannot
	Redact func(name string) string // how client ids and filters are shown in the log; nil: not at all
	Log    *slog.Logger             // tells who changed what; nil is nowhere
}

// Bounds in time.
const (
	askTimeout    = 5 * time.Second  // for one question to the core
	reloadTimeout = 20 * time.Second // a reload may read files and fetch keys
	writeTimeout  = 30 * time.Second // for a whole answer
)

// errSlow says that the core did not answer in time.
var errSlow = errors.New("the broker's core did not answer in time")

// handler answers requests.
type handler struct {
	Options
	mux *http.ServeMux
}

// NewHandler returns what answers the requests of a Server.
func NewHandler(o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &handler{Options: o, mux: http.NewServeMux()}
	h.get("status", h.status)
	h.get("build", h.build)
	h.get("clients", h.clients)
	h.get("client", h.client)
	h.get("subscriptions", h.subscriptions)
	h.get("retained", h.retained)
	h.get("log-level", h.level)
	h.post("client/disconnect", h.disconnect)
	h.post("client/forget", h.forget)
	h.post("retained/clear", h.clear)
	h.post("unlock", h.unlock)
	h.post("reload", h.reload)
	h.post("log-level", h.setLevel)
	h.post("drain", h.drain)
	h.post("stop", h.stop)
	h.mux.HandleFunc("/", h.nothing)
	return h
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

const prefix = "/v1/"

// get adds a path that is read. It is given the parameters; those that it does not read are an error.
func (h *handler) get(path string, answer func(ctx context.Context, q *query) (any, error)) {
	h.mux.HandleFunc("GET "+prefix+path, func(w http.ResponseWriter, r *http.Request) {
		v, err := answer(r.Context(), parseQuery(r.URL.RawQuery))
		h.reply(w, v, err)
	})
}

// post adds a path that changes something. What was changed, and by whom, is logged.
func (h *handler) post(path string, do func(ctx context.Context, r *http.Request) (result any, about string, err error)) {
	h.mux.HandleFunc("POST "+prefix+path, func(w http.ResponseWriter, r *http.Request) {
		v, about, err := do(r.Context(), r)
		h.record(r, path, about, err)
		h.reply(w, v, err)
	})
}

func (h *handler) reply(w http.ResponseWriter, v any, err error) {
	if err == nil {
		writeJSON(w, http.StatusOK, v)
		return
	}
	e := errorOf(err)
	writeJSON(w, statusOfCode[e.Code], errorBody{e})
}

func (h *handler) record(r *http.Request, path, about string, err error) {
	attrs := []any{"operation", path}
	if uid, ok := r.Context().Value(uidKey{}).(uint32); ok {
		attrs = append(attrs, "uid", uid)
	}
	if about != "" && h.Redact != nil {
		attrs = append(attrs, "about", h.Redact(about))
	}
	if err != nil {
		h.Log.Warn("administration: not done", append(attrs, "code", string(errorOf(err).Code))...)
		return
	}
	h.Log.Info("administration", attrs...)
}

// nothing answers what no other path does.
func (h *handler) nothing(w http.ResponseWriter, r *http.Request) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := h.mux.Handler(other); pattern != "/" && strings.HasPrefix(pattern, method) {
			h.reply(w, nil, &Error{BadMethod, "this path wants the method " + method})
			return
		}
	}
	h.reply(w, nil, &Error{NotFound, "there is no such path; see docs/administration.md"})
}

// ask asks the core, for no longer than it may take.
func (h *handler) ask(ctx context.Context, q abi.Question) (abi.Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, errSlow)
	defer cancel()
	return h.Broker.Ask(ctx, q)
}
