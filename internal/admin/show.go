package admin

import (
	"context"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/metrics"
)

func (h *handler) snapshot(ctx context.Context, q *query) (metrics.Snapshot, error) {
	if err := q.end(); err != nil {
		return metrics.Snapshot{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, errSlow)
	defer cancel()
	return h.Broker.Snapshot(ctx)
}

func (h *handler) status(ctx context.Context, q *query) (any, error) {
	s, err := h.snapshot(ctx, q)
	if err != nil {
		return nil, err
	}
	status := statusOf(&s)
	status.Listeners = h.Broker.Listeners()
	if h.Broker.Draining() {
		status.State = "draining"
	}
	return status, nil
}

func (h *handler) build(ctx context.Context, q *query) (any, error) {
	s, err := h.snapshot(ctx, q)
	return buildOf(&s), err
}

// States of a client that a list may be asked for.
const (
	StateConnected = "connected"
	StateOffline   = "offline"
)

func (h *handler) clients(ctx context.Context, q *query) (any, error) {
	state, name := q.text("state"), q.text("name")
	question := pageQuestion(abi.AskSessions, "", q)
	if err := q.end(); err != nil {
		return nil, err
	}
	if state != "" && state != StateConnected && state != StateOffline {
		return nil, badRequest("state is neither %s nor %s", StateConnected, StateOffline)
	}
	fits := func(r *abi.SessionRecord) bool {
		return (state == "" || (state == StateConnected) == (r.Conn != 0)) && (name == "" || matches(name, r.ClientID))
	}
	return list(ctx, h, question, (*abi.Answer).Sessions, fits, func(r *abi.SessionRecord) Session { return sessionOf(r, h.Broker) })
}

func (h *handler) client(ctx context.Context, q *query) (any, error) {
	id := q.text("id")
	if err := q.end(); err != nil {
		return nil, err
	}
	if err := checkText("id", id); err != nil {
		return nil, err
	}
	a, err := h.ask(ctx, abi.Question{Kind: abi.AskSession, Text: id})
	if err != nil {
		return nil, err
	}
	records, err := a.Sessions()
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, errNoClient
	}
	return sessionOf(&records[0], h.Broker), nil
}

var errNoClient = &Error{NotFound, "the broker knows no client of that id"}

func (h *handler) subscriptions(ctx context.Context, q *query) (any, error) {
	name := q.text("filter")
	question := pageQuestion(abi.AskSubscriptions, q.text("client"), q)
	if err := q.end(); err != nil {
		return nil, err
	}
	fits := func(r *abi.SubscriptionRecord) bool { return name == "" || matches(name, r.Filter) }
	return list(ctx, h, question, (*abi.Answer).Subscriptions, fits, func(r *abi.SubscriptionRecord) Subscription { return Subscription(*r) })
}

func (h *handler) retained(ctx context.Context, q *query) (any, error) {
	filter := q.text("filter")
	if filter == "" {
		filter = "#"
	}
	question := pageQuestion(abi.AskRetained, filter, q)
	if err := q.end(); err != nil {
		return nil, err
	}
	if err := checkFilter(filter); err != nil {
		return nil, err
	}
	all := func(*abi.RetainedRecord) bool { return true }
	return list(ctx, h, question, (*abi.Answer).Retained, all, retainedOf)
}

// pageQuestion is a question for the page that the parameters limit and cursor ask for.
func pageQuestion(kind abi.QuestionKind, text string, q *query) abi.Question {
	return abi.Question{
		Kind: kind, Text: text, Cursor: q.number("cursor", 1<<32-1, 0), Limit: max(1, q.number("limit", MaxPage, DefaultPage)),
	}
}

// maxEmpty bounds how many pages of the core are looked at for one page of an answer.
const maxEmpty = 64

// list makes one page: that of the core, without what does not fit; of the next one if nothing does.
func list[R, T any](ctx context.Context, h *handler, q abi.Question, records func(*abi.Answer) ([]R, error), fits func(*R) bool,
	convert func(*R) T) (any, error) {
	page := Page[T]{Items: []T{}}
	for range maxEmpty {
		a, err := h.ask(ctx, q)
		if err != nil {
			return nil, err
		}
		all, err := records(&a)
		if err != nil {
			return nil, err
		}
		for i := range all {
			if fits(&all[i]) {
				page.Items = append(page.Items, convert(&all[i]))
			}
		}
		q.Cursor, page.Cursor = a.Cursor, a.Cursor
		if len(page.Items) > 0 || a.Cursor == 0 {
			break
		}
	}
	return page, nil
}
