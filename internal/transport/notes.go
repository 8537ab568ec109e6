package transport

import (
	"fmt"
	"log/slog"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// note logs what the core says, and tells Config.Notes. Client ids and filters are logged as Config.Redact shows them,
// payloads never.
func (t *Transport) note(c *conn, effect *abi.Effect) {
	if t.notes != nil {
		t.notes(effect.Conn, abi.Note(effect.Arg), effect.Data)
	}
	log := t.log.With("conn", effect.Conn)
	if c != nil { // otherwise it has ended meanwhile
		log = c.log
	}
	switch note := abi.Note(effect.Arg); note {
	case abi.NoteConnected:
		t.noteConnected(log, effect.Data)
	case abi.NoteDisconnected:
		t.noteDisconnected(log, effect.Data)
	case abi.NoteRefused:
		log.Warn("client refused", "reason", printable(effect.Data))
	case abi.NoteProtocol:
		log.Warn("client broke the protocol", "reason", printable(effect.Data))
	case abi.NoteDropped:
		log.Warn("messages to client dropped", "client", t.shown(string(effect.Data)))
	case abi.NoteDenied:
		log.Warn("denied by the rules", "client", t.shown(string(effect.Data)))
	case abi.NoteSubscribed, abi.NoteUnsubscribed:
		t.noteSubscribed(log, note, effect.Data)
	case abi.NoteLimit:
		t.noteLimit(log, effect.Data)
	default:
		log.Info("note of the broker core", "note", uint32(note))
	}
}

func (t *Transport) noteConnected(log *slog.Logger, data []byte) {
	var n abi.Connected
	if err := abi.ReadConnected(data, &n); err != nil {
		log.Error("note cannot be read", "error", err)
		return
	}
	log.Info("client connected", "client", t.shown(n.ClientID), "user", printable([]byte(n.User)), "mqtt", n.Version,
		"keep_alive", n.KeepAlive, "clean_start", n.CleanStart, "session_present", n.SessionPresent, "expiry", n.Expiry)
}

func (t *Transport) noteDisconnected(log *slog.Logger, data []byte) {
	var n abi.Disconnected
	if err := abi.ReadDisconnected(data, &n); err != nil {
		log.Error("note cannot be read", "error", err)
		return
	}
	log.Info("client disconnected", "client", t.shown(n.ClientID), "reason", fmt.Sprintf("0x%02x", n.Reason), "orderly", n.Orderly)
}

func (t *Transport) noteSubscribed(log *slog.Logger, note abi.Note, data []byte) {
	var n abi.Subscribed
	if err := abi.ReadSubscribed(data, &n); err != nil {
		log.Error("note cannot be read", "error", err)
		return
	}
	what := "client subscribed"
	if note == abi.NoteUnsubscribed {
		what = "client unsubscribed"
	}
	log.Debug(what, "client", t.shown(n.ClientID), "filter", t.shown(n.Filter), "reason", fmt.Sprintf("0x%02x", n.Reason))
}

func (t *Transport) noteLimit(log *slog.Logger, data []byte) {
	var n abi.LimitMet
	if err := abi.ReadLimitMet(data, &n); err != nil {
		log.Error("note cannot be read", "error", err)
		return
	}
	log.Warn("limit met", "limit", n.Limit.String(), "client", t.shown(n.ClientID))
}

// shown is how a client id or a filter stands in the log.
func (t *Transport) shown(s string) string {
	if t.redact != nil && s != "" {
		s = t.redact(s)
	}
	return printable([]byte(s))
}

// printable cuts what a client may have chosen to what a log line can bear. The log's handler quotes it.
func printable(b []byte) string {
	const most = 256
	if len(b) > most {
		return string(b[:most]) + "..."
	}
	return string(b)
}
