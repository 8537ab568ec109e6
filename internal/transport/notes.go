package transport

import (
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
	log := t.log.With("conn", effect.Conn)
	if c != nil { // otherwise it has ended meanwhile
		log = c.log
	}
	t.access.Note(log, note, effect.Data)
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
