package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Client asks a broker through its socket.
type Client struct {
	socket string
	http   *http.Client
}

// clientTimeout is longer than anything takes that a Server does.
const clientTimeout = writeTimeout + 5*time.Second

// maxAnswer bounds what is read of one answer.
const maxAnswer = 256 << 20

// ErrNoBroker says that nobody listens on the socket.
var ErrNoBroker = errors.New("no broker listens there")

// NewClient returns a client for the broker that listens on a socket. Nothing is opened until it asks.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{
		Timeout: clientTimeout, Transport: &http.Transport{DialContext: dial, DisableCompression: true},
	}}
}

// Close closes connections that are kept for the next question.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks how the broker is doing.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.get(ctx, "status", nil, &s)
}

// Build asks what runs.
func (c *Client) Build(ctx context.Context) (b Build, err error) {
	return b, c.get(ctx, "build", nil, &b)
}

// ClientsFilter says which clients are listed.
type ClientsFilter struct {
	State string // StateConnected, StateOffline, or "" for both
	Name  string // pattern with * and ?, "" is all
	Limit int    // of one page; 0 is MaxPage
}

// Clients lists clients. The list ends with the first error.
func (c *Client) Clients(ctx context.Context, f ClientsFilter) iter.Seq2[Session, error] {
	return pages[Session](ctx, c, "clients", url.Values{"state": {f.State}, "name": {f.Name}}, f.Limit)
}

// Client asks for one client. An error of kind NotFound says that there is none.
func (c *Client) Client(ctx context.Context, id string) (s Session, err error) {
	return s, c.get(ctx, "client", url.Values{"id": {id}}, &s)
}

// Disconnect ends the connection of a client.
func (c *Client) Disconnect(ctx context.Context, r DisconnectRequest) error {
	return c.post(ctx, "client/disconnect", r, new(Done))
}

// Forget ends the session of a client, and its connection.
func (c *Client) Forget(ctx context.Context, id string) error {
	return c.post(ctx, "client/forget", ForgetRequest{id}, new(Done))
}

// Subscriptions lists subscriptions: those of one client, or of all if client is "". filter is a pattern with * and ?.
func (c *Client) Subscriptions(ctx context.Context, client, filter string) iter.Seq2[Subscription, error] {
	return pages[Subscription](ctx, c, "subscriptions", url.Values{"client": {client}, "filter": {filter}}, 0)
}

// Retained lists the retained messages whose topic matches a topic filter.
func (c *Client) Retained(ctx context.Context, filter string) iter.Seq2[Retained, error] {
	return pages[Retained](ctx, c, "retained", url.Values{"filter": {filter}}, 0)
}

// ClearRetained removes the retained messages whose topic matches a topic filter, and says how many.
func (c *Client) ClearRetained(ctx context.Context, filter string) (uint32, error) {
	var done Done
	err := c.post(ctx, "retained/clear", ClearRequest{filter}, &done)
	return done.Count, err
}

// Unlock lets an IP address in again that has been locked out for failed logins. An error of kind Refused says that it
// was not.
func (c *Client) Unlock(ctx context.Context, address string) error {
	return c.post(ctx, "unlock", UnlockRequest{address}, new(Done))
}

// Reload has the broker read its configuration anew.
func (c *Client) Reload(ctx context.Context) error { return c.post(ctx, "reload", nil, new(Reloaded)) }

// Level asks what is logged.
func (c *Client) Level(ctx context.Context) (string, error) {
	var l Level
	err := c.get(ctx, "log-level", nil, &l)
	return l.Level, err
}

// SetLevel changes what is logged.
func (c *Client) SetLevel(ctx context.Context, level string) error {
	return c.post(ctx, "log-level", LevelRequest{level}, new(Level))
}

// Drain has the broker let no connection in any more.
func (c *Client) Drain(ctx context.Context) error { return c.post(ctx, "drain", nil, new(State)) }

// Stop has the broker end.
func (c *Client) Stop(ctx context.Context, r StopRequest) error {
	return c.post(ctx, "stop", r, new(State))
}

// pages asks for one page after the other.
func pages[T any](ctx context.Context, c *Client, path string, parameters url.Values, limit int) iter.Seq2[T, error] {
	if limit == 0 {
		limit = MaxPage
	}
	parameters.Set("limit", strconv.Itoa(limit))
	return func(yield func(T, error) bool) {
		for {
			var page Page[T]
			if err := c.get(ctx, path, parameters, &page); err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Cursor == 0 {
				return
			}
			parameters.Set("cursor", strconv.FormatUint(uint64(page.Cursor), 10))
		}
	}
}

func (c *Client) get(ctx context.Context, path string, parameters url.Values, into any) error {
	for name, value := range parameters {
		if value[0] == "" {
			parameters.Del(name)
		}
	}
	return c.do(ctx, http.MethodGet, path+"?"+parameters.Encode(), nil, into)
}

func (c *Client) post(ctx context.Context, path string, request, into any) error {
	body := []byte("{}")
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	return c.do(ctx, http.MethodPost, path, body, into)
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://broker"+prefix+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer response.Body.Close()
	answer := json.NewDecoder(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode != http.StatusOK {
		return refusal(response.StatusCode, answer)
	}
	if err := answer.Decode(into); err != nil {
		return fmt.Errorf("the answer of the broker at %s cannot be read: %w", c.socket, err)
	}
	return nil
}

// explain says what an error of the connection means.
func (c *Client) explain(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the URL, which means nothing to anybody
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("%w: %s: %w", ErrNoBroker, c.socket, op.Err)
	}
	return fmt.Errorf("ask the broker at %s: %w", c.socket, err)
}

// refusal reads an answer that says no.
func refusal(status int, answer *json.Decoder) error {
	var body errorBody
	if err := answer.Decode(&body); err != nil || body.Error == nil {
		return fmt.Errorf("the broker answered with status %d and no reason", status)
	}
	return body.Error
}
