// Package accesslog writes who came, what they were refused and how they left: one line for each thing that the
// broker's core tells of.
//
// Client ids, user names, topics and filters go through [Log.Redact] before they are written. Payloads never reach this
// package. Levels: Info for what is normal and rare, Debug for what is normal and frequent, Warn for what was refused.
package accesslog

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/redact"
)

// Log writes the lines. Its methods take the logger to write to, which has what is known of the connection (its
// number, listener and address) as attributes. They may be called by any goroutine.
type Log struct {
	Redact redact.Func // how names are shown; nil is redact.Plain
}

func (l *Log) name(s string) string {
	if s == "" {
		return ""
	}
	if l.Redact == nil {
		return redact.Plain(s)
	}
	return l.Redact(s)
}

// Note writes a note of the core: data as [abi.EffectNote] brings it. A note that cannot be read is an error line, and
// no more: it is of no harm to anybody.
func (l *Log) Note(log *slog.Logger, note abi.Note, data []byte) {
	if isFrequent(note, data) && !log.Enabled(context.Background(), slog.LevelDebug) {
		return // clients with many filters bring many of these, and nobody will read them
	}
	if err := l.note(log, note, data); err != nil {
		log.Error("note of the broker core cannot be read", "note", uint32(note), "error", err)
	}
}

// isFrequent says whether a note is written at Debug: of subscriptions, as long as they are not refused. The reason code is
// the last byte of such a note.
func isFrequent(note abi.Note, data []byte) bool {
	return note == abi.NoteUnsubscribed || note == abi.NoteSubscribed && len(data) > 0 && data[len(data)-1] < firstFailure
}

func (l *Log) note(log *slog.Logger, note abi.Note, data []byte) error {
	switch note {
	case abi.NoteConnected:
		return read(data, abi.ReadConnected, func(n *abi.Connected) { l.Connected(log, n) })
	case abi.NoteDisconnected:
		return read(data, abi.ReadDisconnected, func(n *abi.Disconnected) { l.Disconnected(log, n) })
	case abi.NoteSubscribed:
		return read(data, abi.ReadSubscribed, func(n *abi.Subscribed) { l.Subscribed(log, n) })
	case abi.NoteUnsubscribed:
		return read(data, abi.ReadSubscribed, func(n *abi.Subscribed) { l.Unsubscribed(log, n) })
	case abi.NoteLimit:
		return read(data, abi.ReadLimitMet, func(n *abi.LimitMet) { l.LimitMet(log, n) })
	case abi.NoteRefused:
		l.Refused(log, string(data))
	case abi.NoteProtocol:
		l.Protocol(log, string(data))
	case abi.NoteDropped:
		l.Dropped(log, string(data))
	case abi.NoteDenied:
		return read(data, abi.ReadSubscribed, func(n *abi.Subscribed) { l.Denied(log, n) })
	default:
		log.Info("note of the broker core", "note", uint32(note), "bytes", len(data))
	}
	return nil
}

func read[T any](data []byte, decode func([]byte, *T) error, write func(*T)) error {
	var note T
	if err := decode(data, &note); err != nil {
		return err
	}
	write(&note)
	return nil
}

// Connected tells that a session began or went on.
func (l *Log) Connected(log *slog.Logger, n *abi.Connected) {
	log.Info("client connected", "client", l.name(n.ClientID), "user", l.name(n.User), "mqtt", n.Version,
		"keep_alive", n.KeepAlive, "clean_start", n.CleanStart, "session_present", n.SessionPresent, "expiry", n.Expiry)
}

// Disconnected tells that a session lost its connection.
func (l *Log) Disconnected(log *slog.Logger, n *abi.Disconnected) {
	log.Info("client disconnected", "client", l.name(n.ClientID), "reason", code(n.Reason), "orderly", n.Orderly)
}

// Refused tells that a CONNECT was refused, and why: the core's words, which hold nothing that the client chose.
func (l *Log) Refused(log *slog.Logger, reason string) {
	log.Warn("client refused", "reason", redact.Plain(reason))
}

// Protocol tells that a client broke the protocol, and how, in the core's words.
func (l *Log) Protocol(log *slog.Logger, reason string) {
	log.Warn("client broke the protocol", "reason", redact.Plain(reason))
}

// Subscribed tells the outcome of one filter of a SUBSCRIBE. A refusal is louder than a success.
func (l *Log) Subscribed(log *slog.Logger, n *abi.Subscribed) {
	if n.Reason >= firstFailure {
		log.Warn("subscription refused", "client", l.name(n.ClientID), "filter", l.name(n.Filter), "reason", code(n.Reason))
		return
	}
	log.Debug("client subscribed", "client", l.name(n.ClientID), "filter", l.name(n.Filter), "reason", code(n.Reason))
}

// Unsubscribed tells that a client unsubscribed.
func (l *Log) Unsubscribed(log *slog.Logger, n *abi.Subscribed) {
	log.Debug("client unsubscribed", "client", l.name(n.ClientID), "filter", l.name(n.Filter))
}

// Denied tells that the rules refused a publish or a subscribe, for the first time on its connection.
func (l *Log) Denied(log *slog.Logger, n *abi.Subscribed) {
	log.Warn("denied by the rules", "client", l.name(n.ClientID), "topic", l.name(n.Filter))
}

// Dropped tells that messages to a session were dropped.
func (l *Log) Dropped(log *slog.Logger, client string) {
	log.Warn("messages to client dropped", "client", l.name(client))
}

// LimitMet tells that a limit was met.
func (l *Log) LimitMet(log *slog.Logger, n *abi.LimitMet) {
	log.Warn("limit met", "limit", n.Limit.String(), "client", l.name(n.ClientID))
}

// firstFailure is the smallest MQTT reason code that says no (MQTT 5, 2.4).
const firstFailure = 0x80

func code(reason uint8) string { return fmt.Sprintf("0x%02x", reason) }
