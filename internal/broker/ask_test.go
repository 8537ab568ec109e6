package broker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// answerTo asks a question in a step of its own.
func (b *bencher) answerTo(t *testing.T, q *abi.Question) *abi.Answer {
	t.Helper()
	b.begin()
	b.event(abi.EventAsk, 0, 5, abi.AppendQuestion(nil, q))
	effects := b.run()
	var e abi.Effect
	for at := abi.EffectsHeaderSize; at < len(effects); {
		var err error
		if at, err = abi.NextEffect(effects, at, &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind != abi.EffectAnswer {
			continue
		}
		var a abi.Answer
		if err := abi.ReadAnswer(e.Data, &a); err != nil || e.Arg != 5 || a.Kind != q.Kind {
			t.Fatalf("answer %+v to %+v, number %d, error %v", a, q, e.Arg, err)
		}
		if a.Count > pageRecords || len(a.Records) > pageBytes+0x30000 || b.core.work > pageRecords+pageLooked {
			t.Fatalf("a page has %d records, %d bytes and took %d units of work", a.Count, len(a.Records), b.core.work)
		}
		return &a
	}
	t.Fatal("no answer came")
	return nil
}

// all asks until there is nothing more, and does something between the pages.
func (b *bencher) all(t *testing.T, q abi.Question, read func(*abi.Answer) ([]string, error), between func()) (list []string) {
	t.Helper()
	for range 10_000 {
		a := b.answerTo(t, &q)
		names, err := read(a)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, names...)
		if q.Cursor = a.Cursor; a.Cursor == 0 {
			return list
		}
		between()
	}
	t.Fatal("the answers do not come to an end")
	return nil
}

func sessionNames(a *abi.Answer) (names []string, err error) {
	list, err := a.Sessions()
	for _, s := range list {
		names = append(names, s.ClientID)
	}
	return names, err
}

func subscriptionNames(a *abi.Answer) (names []string, err error) {
	list, err := a.Subscriptions()
	for _, s := range list {
		names = append(names, s.ClientID+" "+s.Filter)
	}
	return names, err
}

func retainedNames(a *abi.Answer) (names []string, err error) {
	list, err := a.Retained()
	for _, s := range list {
		names = append(names, s.Topic)
	}
	return names, err
}

// TestPagesMissNothing asks for all that there is, with random pages, while others come and go. Those that stay are told
// once each.
func TestPagesMissNothing(t *testing.T) {
	r := newRandom(t)
	b := newBencher()
	const stay, subs = 2000, 5
	var filters []mqtt.Filter
	for k := range subs {
		filters = append(filters, mqtt.Filter{Topic: fmt.Appendf(nil, "f/%d", k)})
	}
	for i := range abi.Conn(stay) {
		b.connect(1+i, mqtt.V311, filters...)
	}
	guest := abi.Conn(stay)
	come := func() { // sessions, subscriptions and retained messages
		for range r.IntN(20) {
			guest++
			b.connect(guest, mqtt.V311, mqtt.Filter{Topic: []byte("guest")})
			b.retain(guest, fmt.Sprintf("guest/%d", guest), "x")
		}
	}
	for range 20 {
		come()
	}
	for i := range stay {
		b.retain(1, fmt.Sprintf("stay/%d", i), "x")
	}
	churn := func() {
		come()
		for range r.IntN(20) {
			id := 1 + stay + abi.Conn(r.IntN(int(guest-stay)))
			b.retain(1, fmt.Sprintf("guest/%d", id), "")
			b.begin()
			b.event(abi.EventClosed, id, 0, nil)
			b.run()
		}
	}
	for range 3 {
		checkStayed(t, b.all(t, abi.Question{Kind: abi.AskSessions, Limit: 50 + r.Uint32N(300)}, sessionNames, churn), stay, func(name string) bool {
			var n int
			_, err := fmt.Sscanf(name, "c%d", &n)
			return err == nil && n <= stay
		})
		checkStayed(t, b.all(t, abi.Question{Kind: abi.AskSubscriptions, Limit: 50 + r.Uint32N(300)}, subscriptionNames, churn), stay*subs, func(name string) bool {
			return strings.Contains(name, " f/")
		})
		for _, filter := range []string{"#", "+/+", "stay/#"} {
			checkStayed(t, b.all(t, abi.Question{Kind: abi.AskRetained, Limit: 50 + r.Uint32N(300), Text: filter}, retainedNames, churn), stay, func(name string) bool {
				return strings.HasPrefix(name, "stay/")
			})
		}
	}
	checkCleared(t, b, r)
}

// checkCleared removes all retained messages, page by page.
func checkCleared(t *testing.T, b *bencher, r *rand.Rand) {
	t.Helper()
	before, removed := b.core.retained.count, uint32(0)
	q := abi.Question{Kind: abi.DoClearRetained, Text: "#", Limit: r.Uint32N(300)}
	for {
		a := b.answerTo(t, &q)
		removed += a.Count
		if q.Cursor = a.Cursor; a.Cursor == 0 {
			break
		}
	}
	if removed != before || b.core.retained.count != 0 || b.core.retained.bytes != 0 {
		t.Errorf("%d of %d were removed, %d messages and %d bytes are left", removed, before, b.core.retained.count, b.core.retained.bytes)
	}
}

// checkStayed looks whether all that stays was told, and once.
func checkStayed(t *testing.T, list []string, want int, stayed func(string) bool) {
	t.Helper()
	slices.Sort(list)
	told := len(list)
	list = slices.DeleteFunc(list, func(name string) bool { return !stayed(name) })
	if n := len(slices.Compact(slices.Clone(list))); n != want || len(list) != want {
		t.Errorf("of %d that stay %d were told, %d times, among %d", want, n, len(list), told)
	}
}

func (b *bencher) retain(conn abi.Conn, topic, payload string) {
	b.begin()
	b.event(abi.EventPackets, conn, 1, mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), Retain: true}))
	b.run()
}

// TestSubscriptionsOfOne asks for those of a session that has more than are looked at for a page, among others.
func TestSubscriptionsOfOne(t *testing.T) {
	b := newBencher()
	b.connect(1, mqtt.V311, mqtt.Filter{Topic: []byte("x")})
	for n, filters := 0, []mqtt.Filter(nil); n < pageLooked+1000; filters = nil {
		for range 500 {
			filters = append(filters, mqtt.Filter{Topic: fmt.Appendf(nil, "%d", n)})
			n++
		}
		b.begin()
		if n == 500 {
			b.connect(2, mqtt.V311, filters...)
			continue
		}
		b.event(abi.EventPackets, 2, 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, filters))
		b.run()
	}
	want := int(b.core.sessions.at(b.core.connectionOf(2).session).subscriptions)
	list := b.all(t, abi.Question{Kind: abi.AskSubscriptions, Text: "c2"}, subscriptionNames, func() {})
	slices.Sort(list)
	if n := len(slices.Compact(list)); n != want || want <= pageLooked || len(list) != want {
		t.Errorf("%d of %d were told", n, want)
	}
}

// TestSharedSubscriptionsAreTold asks for subscriptions one of which is shared.
func TestSharedSubscriptionsAreTold(t *testing.T) {
	b := newBencher()
	b.connect(1, mqtt.V5, mqtt.Filter{Topic: []byte("$share/g/a/+")}, mqtt.Filter{Topic: []byte("a/+")})
	list := b.all(t, abi.Question{Kind: abi.AskSubscriptions}, subscriptionNames, func() {})
	slices.Sort(list)
	if want := []string{"c1 $share/g/a/+", "c1 a/+"}; !slices.Equal(list, want) {
		t.Errorf("told of %q, not %q", list, want)
	}
}

// FuzzAsk asks arbitrary questions and publishes what is perhaps no message, to a core that holds a little of everything.
func FuzzAsk(f *testing.F) {
	for kind := abi.AskSessions; kind <= abi.DoClearRetained; kind++ {
		f.Add(abi.AppendQuestion(nil, &abi.Question{Kind: kind, Text: "a"}))
		f.Add(abi.AppendQuestion(nil, &abi.Question{Kind: kind, Text: "#", Cursor: 0xFFFFFFFF, Limit: 1, Arg: 0xFFFF}))
	}
	f.Add(abi.AppendPublication(nil, &abi.Publication{Topic: "t/1", Payload: []byte("x"), QoS: 2, Retain: true}))
	f.Fuzz(func(t *testing.T, data []byte) {
		rig := brokertest.New(New())
		config := authConfig()
		config.Rules[0].Publish = append(config.Rules[0].Publish, "$SYS/#")
		rig.Configure(config)
		a := fuzzClient(rig, "a", mqtt.V5)
		a.Packets(mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("t/1"), Payload: []byte("x"), QoS: 2, PacketID: 1, Retain: true}))
		rig.Event(abi.EventPublish, 0, 0, data)
		rig.Event(abi.EventAsk, 0, 9, data)
		run(t, rig)
		packetsOf(t, a)
		if len(rig.Answers) != 1 || rig.Answers[0].Number != 9 {
			t.Fatalf("the answers are %v", rig.Answers)
		}
		answer := &rig.Answers[0]
		names := map[abi.QuestionKind]func(*abi.Answer) ([]string, error){
			abi.AskSessions: sessionNames, abi.AskSession: sessionNames, abi.AskSubscriptions: subscriptionNames, abi.AskRetained: retainedNames,
		}[answer.Kind]
		if names == nil {
			if len(answer.Records) > 0 {
				t.Errorf("an answer of kind %d has records", answer.Kind)
			}
			return
		}
		if _, err := names(&answer.Answer); err != nil {
			t.Error(err)
		}
	})
}
