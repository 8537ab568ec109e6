package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Bounds of what is asked.
const (
	maxBody     = 256 << 10 // a client id or a filter of 65,535 characters, escaped, fits
	maxText     = 65535     // bytes of a client id or a filter, as MQTT bounds them
	DefaultPage = 100
	MaxPage     = 1000
)

func badRequest(format string, args ...any) error {
	return &Error{BadRequest, fmt.Sprintf(format, args...)}
}

// decode reads a body: one JSON value, without unknown fields, and nothing behind it.
func decode(body io.Reader, into any) error {
	d := json.NewDecoder(io.LimitReader(body, maxBody+1))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badRequest("the body is not what this path wants: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("the body goes on behind its end, or is larger than %d bytes", maxBody)
	}
	return nil
}

// read reads a body and looks whether it makes sense.
func read(body io.Reader, request interface{ check() error }) error {
	if err := decode(body, request); err != nil {
		return err
	}
	return request.check()
}

// DisconnectRequest ends the connection of a client.
type DisconnectRequest struct {
	ClientID string `json:"client_id"`
	Reason   uint8  `json:"reason,omitempty"` // MQTT 5 reason code; 0 is 0x98, administrative action
}

func (r *DisconnectRequest) check() error {
	if r.Reason == 0 {
		r.Reason = uint8(mqtt.AdministrativeAction)
	}
	if !slices.Contains(reasons(), mqtt.ReasonCode(r.Reason)) {
		return badRequest("reason 0x%02x is not one that an administrator gives; use one of %s", r.Reason, listed(reasons()))
	}
	return checkText("client_id", r.ClientID)
}

// reasons are those of DISCONNECT (MQTT 5, 3.14.2.1) that may be an administrator's.
func reasons() []mqtt.ReasonCode {
	return []mqtt.ReasonCode{
		mqtt.UnspecifiedError, mqtt.ImplementationSpecificError, mqtt.NotAuthorized, mqtt.ServerBusy, mqtt.ServerShuttingDown,
		mqtt.MessageRateTooHigh, mqtt.QuotaExceeded, mqtt.AdministrativeAction, mqtt.UseAnotherServer, mqtt.ServerMoved,
		mqtt.ConnectionRateExceeded, mqtt.MaximumConnectTime,
	}
}

func listed(codes []mqtt.ReasonCode) (text string) {
	for i, c := range codes {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("0x%02x", uint8(c))
	}
	return text
}

// ForgetRequest ends the session of a client, and its connection.
type ForgetRequest struct {
	ClientID string `json:"client_id"`
}

func (r *ForgetRequest) check() error { return checkText("client_id", r.ClientID) }

// ClearRequest removes retained messages.
type ClearRequest struct {
	Filter string `json:"filter"` // topic filter
}

func (r *ClearRequest) check() error { return checkFilter(r.Filter) }

// UnlockRequest lets an address in again.
type UnlockRequest struct {
	Address string `json:"address"` // IPv4 or IPv6; one of IPv6 stands for its /64
}

// LevelRequest changes what is logged.
type LevelRequest struct {
	Level string `json:"level"` // debug, info, warn or error
}

// StopRequest ends the broker.
type StopRequest struct {
	Reason    uint8  `json:"reason,omitempty"` // MQTT 5 reason code for clients; 0 is 0x8B, or 0x9C with a reference
	Reference string `json:"server_reference,omitempty"`
}

func (r *StopRequest) check() error {
	if r.Reason == 0 {
		r.Reason = uint8(mqtt.ServerShuttingDown)
		if r.Reference != "" {
			r.Reason = uint8(mqtt.UseAnotherServer)
		}
	}
	allowed := []mqtt.ReasonCode{mqtt.ServerShuttingDown, mqtt.AdministrativeAction, mqtt.UseAnotherServer, mqtt.ServerMoved}
	reason := mqtt.ReasonCode(r.Reason)
	if !slices.Contains(allowed, reason) {
		return badRequest("reason 0x%02x does not say why a broker stops; use one of %s", r.Reason, listed(allowed))
	}
	if r.Reference == "" {
		return nil
	}
	if reason != mqtt.UseAnotherServer && reason != mqtt.ServerMoved {
		return badRequest("a server_reference goes with the reasons 0x9c and 0x9d only") // (MQTT 5, 3.14.2.2.5)
	}
	return checkText("server_reference", r.Reference)
}

// checkText is for what must be an MQTT string that is not empty.
func checkText(name, text string) error {
	switch {
	case text == "":
		return badRequest("%s is missing", name)
	case len(text) > maxText || !utf8.ValidString(text):
		return badRequest("%s is not text of at most %d bytes", name, maxText)
	}
	return nil
}

func checkFilter(filter string) error {
	if len(filter) > maxText || !mqtt.ValidTopicFilter([]byte(filter)) {
		return badRequest("%q is not a topic filter", cut(filter))
	}
	return nil
}

func cut(text string) string { return text[:min(len(text), 100)] }

// query reads the parameters of a URL. What is wrong is remembered, for end.
type query struct {
	values url.Values
	known  []string
	err    error
}

func parseQuery(raw string) *query {
	values, err := url.ParseQuery(raw)
	if err != nil {
		err = badRequest("the parameters cannot be read: %v", err)
	}
	return &query{values: values, err: err}
}

func (q *query) text(name string) string {
	q.known = append(q.known, name)
	list := q.values[name]
	if len(list) > 1 && q.err == nil {
		q.err = badRequest("%s is given twice", name)
	}
	if len(list) == 0 || list[0] == "" {
		return ""
	}
	if err := checkText(name, list[0]); err != nil && q.err == nil {
		q.err = err
	}
	return list[0]
}

func (q *query) number(name string, most uint32, otherwise uint32) uint32 {
	text := q.text(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if (err != nil || n > uint64(most)) && q.err == nil {
		q.err = badRequest("%s is not a number from 0 to %d", name, most)
	}
	return uint32(n)
}

// end returns what was wrong: also a parameter that nobody asked for.
func (q *query) end() error {
	for name := range q.values {
		if !slices.Contains(q.known, name) && q.err == nil {
			q.err = badRequest("there is no parameter %q here", cut(name))
		}
	}
	return q.err
}
