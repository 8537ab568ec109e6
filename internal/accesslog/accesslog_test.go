package accesslog_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/accesslog"
	"github.com/vouchmq/vouchmq/internal/redact"
)

// secret stands in the place of each name that a client has chosen.
const secret = "pump-7"

var notes = map[abi.Note][]byte{
	abi.NoteConnected:    abi.AppendConnected(nil, &abi.Connected{ClientID: secret, User: secret, Version: 5}),
	abi.NoteDisconnected: abi.AppendDisconnected(nil, &abi.Disconnected{ClientID: secret, Reason: 0x8e}),
	abi.NoteDropped:      []byte(secret),
	abi.NoteDenied:       abi.AppendSubscribed(nil, []byte(secret), []byte(secret+"/1"), 0x87),
	abi.NoteSubscribed:   abi.AppendSubscribed(nil, []byte(secret), []byte(secret+"/#"), 1),
	abi.NoteUnsubscribed: abi.AppendSubscribed(nil, []byte(secret), []byte(secret+"/#"), 0),
	abi.NoteLimit:        abi.AppendLimitMet(nil, &abi.LimitMet{Limit: abi.LimitQueue, ClientID: secret}),
}

func write(l *accesslog.Log, note abi.Note, data []byte) string {
	var out bytes.Buffer
	l.Note(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), note, data)
	return out.String()
}

func TestNamesAreHiddenUnlessAsked(t *testing.T) {
	hide, err := redact.With(make([]byte, redact.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	for note, data := range notes {
		if line := write(&accesslog.Log{Redact: hide}, note, data); strings.Contains(line, secret) || !strings.Contains(line, hide(secret)) {
			t.Errorf("note %d, hidden: %s", note, line)
		}
		if line := write(&accesslog.Log{}, note, data); !strings.Contains(line, secret) {
			t.Errorf("note %d, plain: %s", note, line)
		}
	}
}

func TestLines(t *testing.T) {
	refused := abi.AppendSubscribed(nil, []byte("c"), []byte("f"), 0x87)
	for _, c := range []struct {
		note abi.Note
		data []byte
		want []string
	}{
		{abi.NoteConnected, notes[abi.NoteConnected], []string{"level=INFO", "client connected", "mqtt=5"}},
		{abi.NoteDisconnected, notes[abi.NoteDisconnected], []string{"level=INFO", "reason=0x8e", "orderly=false"}},
		{abi.NoteSubscribed, notes[abi.NoteSubscribed], []string{"level=DEBUG", "filter=pump-7/#"}},
		{abi.NoteSubscribed, refused, []string{"level=WARN", "subscription refused", "reason=0x87"}},
		{abi.NoteUnsubscribed, notes[abi.NoteUnsubscribed], []string{"level=DEBUG", "client unsubscribed"}},
		{abi.NoteDenied, notes[abi.NoteDenied], []string{"level=WARN", "denied by the rules", "topic=pump-7/1"}},
		{abi.NoteLimit, notes[abi.NoteLimit], []string{"level=WARN", "limit=queue"}},
		{abi.NoteRefused, []byte("no rule fits"), []string{"level=WARN", "client refused", "no rule fits"}},
		{abi.NoteProtocol, []byte("second CONNECT\nx"), []string{"level=WARN", `second CONNECT\nx`}},
		{99, []byte("new"), []string{"level=INFO", "note=99"}},
	} {
		line := write(&accesslog.Log{}, c.note, c.data)
		for _, want := range c.want {
			if !strings.Contains(line, want) {
				t.Errorf("note %d has no %q: %s", c.note, want, line)
			}
		}
		if strings.Count(line, "\n") != 1 {
			t.Errorf("note %d is not one line: %q", c.note, line)
		}
	}
}

// FuzzNote reads arbitrary bytes as notes: one line comes of each, and no name but through the redactor.
func FuzzNote(f *testing.F) {
	for note, data := range notes {
		f.Add(uint32(note), data)
	}
	f.Fuzz(func(t *testing.T, note uint32, data []byte) {
		line := write(&accesslog.Log{}, abi.Note(note), data)
		if strings.Count(line, "\n") != 1 {
			t.Errorf("%q", line)
		}
	})
}
