package transport

import (
	"log/slog"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// note logs what the core says, and tells Config.Notes.
func (t *Transport) note(c *conn, effect *abi.Effect) {
	note := abi.Note(effect.Arg)
	if t.notes != nil {
		t.notes(effect.Conn, note, effect.Data)
	}
	if t.quiet && isAccess(note) {
		return
	}
	t.access.Note(t.logOf(c, effect.Conn, note), note, effect.Data)
}

// logOf returns the log of a connection, with its listener and address. That of one that has ended meanwhile, as most have when the core
// tells so, is kept for that.
func (t *Transport) logOf(c *conn, id abi.Conn, note abi.Note) *slog.Logger {
	if c != nil {
		return c.log
	}
	if note == abi.NoteDisconnected {
		if log := t.table.farewell(id); log != nil {
			return log
		}
	}
	return t.log.With("conn", id)
}

// isAccess says whether a note is one of those that tell of clients who come, go and subscribe, as they should.
func isAccess(note abi.Note) bool {
	switch note {
	case abi.NoteConnected, abi.NoteDisconnected, abi.NoteUnsubscribed, abi.NoteSubscribed:
		return true
	}
	return false
}

// printable cuts what a client may have chosen to what a log line can bear. The log's handler quotes it.
func printable(b []byte) string {
	const most = 256
	if len(b) > most {
		return string(b[:most]) + "..."
	}
	return string(b)
}
