package brokertest

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// host does what "a: blocked" says.
func (s *Script) host(text string) error {
	name, rest, _ := strings.Cut(text, ": ")
	c := s.clients[name]
	if c == nil || c.conn == nil {
		return fmt.Errorf("%s is not connected", name)
	}
	w := splitWords(rest)
	if data, reason, ok := w.authAnswer(); ok { // also one that comes too late
		c.conn.Answer(reason, data)
		return w.end()
	}
	if c.conn.Gone() {
		return fmt.Errorf("%s is not connected", name)
	}
	kind, ok := hostEvents[w.next("the event")]
	if !ok {
		return fmt.Errorf("unknown event %q", rest)
	}
	c.conn.Event(kind, uint32(w.reason()), nil)
	return w.end()
}

var hostEvents = map[string]abi.EventKind{
	"blocked": abi.EventBlocked, "unblocked": abi.EventUnblocked, "synced": abi.EventSynced,
	"disconnect": abi.EventDisconnect, "bad-packet": abi.EventBadPacket,
}

// authAnswer takes the words of an answer who a client is.
func (w *words) authAnswer() (data []byte, reason uint32, ok bool) {
	switch {
	case w.flag("accept"):
	case w.flag("continue"):
		reason = uint32(mqtt.ContinueAuthentication)
	case w.flag("refuse"), w.flag("answers"):
		reason = w.parse("reason code", w.next("the reason code"))
	default:
		return nil, 0, false
	}
	if v, ok := w.value("raw"); ok {
		data, err := hex.DecodeString(v)
		if err != nil {
			w.fail("%v", err)
		}
		return data, reason, true
	}
	var a abi.AuthAnswer
	a.User, _ = w.value("user")
	v, _ := w.value("data")
	a.Data = w.payload(v)
	v, _ = w.value("reason")
	a.Reason = string(w.payload(v))
	if v, ok := w.value("property"); ok {
		a.Properties = strings.SplitN(v, ":", 2)
	}
	return abi.AppendAuthAnswer(nil, &a), reason, true
}

// hostItself does what "publish t" or "ask 1 sessions" says.
func (s *Script) hostItself(w *words) error {
	switch word := w.next("what the host does"); word {
	case "publish":
		p := abi.Publication{QoS: w.qos(), Retain: w.flag("retain")}
		payload, _ := w.value("payload")
		p.Topic, p.Payload = w.next("the topic"), w.payload(payload)
		s.rig.Event(abi.EventPublish, 0, 0, abi.AppendPublication(nil, &p))
	case "ask":
		s.askCore(w)
	case "publishes", "asks": // what is not one
		v, _ := w.value("raw")
		data, err := hex.DecodeString(v)
		if err != nil {
			return err
		}
		s.rig.Event(map[string]abi.EventKind{"publishes": abi.EventPublish, "asks": abi.EventAsk}[word], 0, 0, data)
	default:
		w.fail("unknown word %q", word)
	}
	return w.end()
}

// askCore queues a question: "7 sessions limit=2".
func (s *Script) askCore(w *words) {
	number := w.parse("number", w.next("the number of the question"))
	word := w.next("the question")
	q := abi.Question{Kind: questions[word]}
	if q.Kind == 0 {
		w.fail("unknown question %q", word)
		return
	}
	q.Limit, _ = w.number("limit")
	q.Arg, _ = w.number("arg")
	q.Text, _ = w.value("text")
	if w.flag("more") {
		q.Cursor = s.cursor
	}
	s.rig.Event(abi.EventAsk, 0, number, abi.AppendQuestion(nil, &q))
}

var questions = map[string]abi.QuestionKind{
	"sessions": abi.AskSessions, "session": abi.AskSession, "subscriptions": abi.AskSubscriptions, "retained": abi.AskRetained,
	"do-disconnect": abi.DoDisconnect, "do-forget": abi.DoForget, "do-clear-retained": abi.DoClearRetained,
}

// hear turns the answers of the core into words.
func (s *Script) hear() error {
	for i := range s.rig.Answers {
		a := &s.rig.Answers[i]
		items, err := describeAnswer(a)
		if err != nil {
			return err
		}
		s.answers, s.cursor = append(s.answers, items...), a.Cursor
	}
	s.rig.Answers = nil
	return nil
}

// expectAnswer checks what the core has answered.
func (s *Script) expectAnswer(want string) error {
	if err := s.hear(); err != nil {
		return err
	}
	if len(s.answers) == 0 {
		return fmt.Errorf("the core has answered nothing")
	}
	got := s.answers[0]
	s.answers = s.answers[1:]
	if got != want {
		return fmt.Errorf("the core has answered %q", got)
	}
	return nil
}
