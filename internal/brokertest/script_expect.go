package brokertest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// collect turns what a client has received into words.
func (c *scriptClient) collect() error {
	if c.conn == nil {
		return nil
	}
	items, err := c.conn.Received()
	for _, item := range items {
		if item.Mark != "" {
			c.items = append(c.items, item.Mark)
			continue
		}
		text, err := Describe(item.Packet, c.version)
		if err != nil {
			return err
		}
		c.items = append(c.items, text)
	}
	return err
}

// settle fails if a client has received something that was not expected.
func (s *Script) settle() error {
	for _, name := range slices.Sorted(maps.Keys(s.clients)) {
		c := s.clients[name]
		if err := c.collect(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(c.items) > 0 {
			return fmt.Errorf("%s has received %d items that were not expected, first %q", name, len(c.items), c.items[:min(len(c.items), 10)])
		}
	}
	if err := s.hear(); err != nil {
		return err
	}
	if len(s.answers) > 0 {
		return fmt.Errorf("the core has answered what was not expected, first %q", s.answers[:min(len(s.answers), 10)])
	}
	return nil
}

// expect checks what has come of the last line that made something happen.
func (s *Script) expect(text string) error {
	if rest, ok := strings.CutPrefix(text, "note "); ok {
		return s.expectNote(splitWords(rest))
	}
	if rest, ok := strings.CutPrefix(text, "stats "); ok {
		return s.expectStats(splitWords(rest))
	}
	name, want, ok := strings.Cut(text, ": ")
	if name == "host" {
		return s.expectAnswer(want)
	}
	c := s.clients[name]
	if c == nil || !ok {
		return fmt.Errorf("no client %q", name)
	}
	if err := c.collect(); err != nil {
		return err
	}
	if len(c.items) == 0 {
		return fmt.Errorf("%s has received nothing", name)
	}
	got := c.items[0]
	c.items = c.items[1:]
	if id, ok := splitWords(got).value("id"); ok {
		c.lastID = id
	}
	if !sameWords(strings.Fields(want), strings.Fields(got)) {
		return fmt.Errorf("%s has received %q", name, got)
	}
	return nil
}

// sameWords compares what is expected with what has come. The order of words matters only among those that may
// come several times.
func sameWords(want, got []string) bool {
	exactly := slices.Contains(want, "exactly")
	want = slices.DeleteFunc(want, func(word string) bool { return word == "exactly" })
	rest := slices.Clone(got)
	for _, word := range want {
		i := slices.Index(rest, word)
		if i < 0 {
			return false
		}
		rest = slices.Delete(rest, i, i+1)
	}
	if !exactly {
		rest = slices.DeleteFunc(rest, mayBeLeftOut)
	}
	return len(rest) == 0 && slices.Equal(ordered(want), ordered(got))
}

func mayBeLeftOut(word string) bool {
	name, _, _ := strings.Cut(word, "=")
	return slices.Contains([]string{"id", "receive-maximum", "packet-maximum", "alias-maximum", "shared", "reason-string"}, name)
}

// ordered returns the words whose order matters.
func ordered(list []string) (some []string) {
	for i, word := range list {
		if !strings.Contains(word, "=") && i > 1 && word != "retain" && word != "dup" && word != "session-present" || strings.HasPrefix(word, "user=") {
			some = append(some, word)
		}
	}
	return some
}

var noteNames = map[string]abi.Note{
	"connected": abi.NoteConnected, "disconnected": abi.NoteDisconnected, "refused": abi.NoteRefused,
	"protocol": abi.NoteProtocol, "dropped": abi.NoteDropped, "denied": abi.NoteDenied, "subscribed": abi.NoteSubscribed,
	"unsubscribed": abi.NoteUnsubscribed, "limit": abi.NoteLimit,
}

// expectNote looks for a note and forgets all that came before it.
func (s *Script) expectNote(w *words) error {
	kind, ok := noteNames[w.next("the note")]
	c := s.clients[w.next("the client")]
	if !ok || c == nil || c.conn == nil {
		return fmt.Errorf("unknown note or client")
	}
	want := strings.Join(w.list, " ")
	for i, n := range s.rig.Notes {
		if n.Kind == kind && n.Conn == c.conn.ID && (want == "" || want == n.words()) {
			s.rig.Notes = s.rig.Notes[i+1:]
			return nil
		}
	}
	return fmt.Errorf("no such note; there are %v", s.rig.Notes)
}

// words returns what a note says as words, the client id left out.
func (n *Note) words() string {
	switch n.Kind {
	case abi.NoteConnected:
		var c abi.Connected
		_ = abi.ReadConnected([]byte(n.Text), &c)
		list := appendText([]string{fmt.Sprintf("v%d", c.Version)}, "user", c.User, c.User != "")
		list = appendNumber(appendNumber(list, "keep-alive", uint32(c.KeepAlive)), "expiry", c.Expiry)
		return strings.Join(appendFlag(appendFlag(list, "clean-start", c.CleanStart), "session-present", c.SessionPresent), " ")
	case abi.NoteDisconnected:
		var d abi.Disconnected
		_ = abi.ReadDisconnected([]byte(n.Text), &d)
		return strings.Join(appendFlag([]string{reasonWord(mqtt.ReasonCode(d.Reason))}, "orderly", d.Orderly), " ")
	case abi.NoteSubscribed, abi.NoteUnsubscribed:
		var sub abi.Subscribed
		_ = abi.ReadSubscribed([]byte(n.Text), &sub)
		return fmt.Sprintf("%s %d", sub.Filter, sub.Reason)
	case abi.NoteDenied:
		var sub abi.Subscribed
		_ = abi.ReadSubscribed([]byte(n.Text), &sub)
		return sub.Filter
	case abi.NoteLimit:
		var l abi.LimitMet
		_ = abi.ReadLimitMet([]byte(n.Text), &l)
		return l.Limit.String()
	}
	return oneWord(n.Text)
}

// statFields are the words that stand for statistics.
var statFields = map[string]func(*abi.Stats) uint64{
	"connections":    func(s *abi.Stats) uint64 { return s.Connections },
	"sessions":       func(s *abi.Stats) uint64 { return s.Sessions },
	"subscriptions":  func(s *abi.Stats) uint64 { return s.Subscriptions },
	"shared":         func(s *abi.Stats) uint64 { return s.Shared },
	"retained":       func(s *abi.Stats) uint64 { return s.Retained },
	"queued":         func(s *abi.Stats) uint64 { return s.Queued },
	"received":       func(s *abi.Stats) uint64 { return s.Received },
	"sent":           func(s *abi.Stats) uint64 { return s.Sent },
	"dropped-qos0":   func(s *abi.Stats) uint64 { return s.DroppedQoS0 },
	"dropped-queue":  func(s *abi.Stats) uint64 { return s.DroppedQueue },
	"denied":         func(s *abi.Stats) uint64 { return s.Denied },
	"refused":        func(s *abi.Stats) uint64 { return s.Refused },
	"faults":         func(s *abi.Stats) uint64 { return s.Faults },
	"authenticated":  func(s *abi.Stats) uint64 { return s.Authenticated },
	"retained-bytes": func(s *abi.Stats) uint64 { return s.RetainedBytes },
	"inflight":       func(s *abi.Stats) uint64 { return s.Inflight },
	"expired":        func(s *abi.Stats) uint64 { return s.Expired },
	"message-bytes":  func(s *abi.Stats) uint64 { return s.MessageBytes },
}

func (s *Script) expectStats(w *words) error {
	s.rig.Event(abi.EventStats, 0, 0, nil)
	if err := s.rig.Run(); err != nil {
		return err
	}
	for name, field := range statFields {
		if want, ok := w.number(name); ok && field(&s.rig.Stats) != uint64(want) {
			w.fail("%s is %d", name, field(&s.rig.Stats))
		}
	}
	for k, got := range s.rig.Stats.LimitsMet {
		name := "limit-" + abi.LimitKind(k).String()
		if want, ok := w.number(name); ok && got != uint64(want) {
			w.fail("%s is %d", name, got)
		}
	}
	return w.end()
}
