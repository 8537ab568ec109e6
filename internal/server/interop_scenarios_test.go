package server_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// stage is where a scenario is played: a client that is tested, and another to talk to.
type stage struct {
	*testing.T
	base       string // that all topics begin with
	version    string
	joinTested func(testing.TB, joining) party
	joinOther  func(testing.TB, joining) party
	joined     int
}

// tested connects the client that is tested.
func (s *stage) tested(j joining) party { return s.join(s.joinTested, j, "tested") }

// other connects the client that it talks to.
func (s *stage) other(j joining) party { return s.join(s.joinOther, j, "other") }

func (s *stage) join(join func(testing.TB, joining) party, j joining, id string) party {
	s.Helper()
	s.joined++
	if j.ID == "" {
		j.ID = s.id(fmt.Sprint(id, s.joined))
	}
	p := join(s.T, j)
	s.Cleanup(p.leave)
	return p
}

// id makes a client id of at most 23 characters, which are all that MQTT 3.1 allows.
func (s *stage) id(name string) string {
	return fmt.Sprintf("%s-%08x", name, crc32.ChecksumIEEE([]byte(s.base)))
}

func (s *stage) topic(rest string) string { return s.base + "/" + rest }

// text makes a message of QoS 1.
func (s *stage) text(topic, payload string) letter {
	return letter{Topic: s.topic(topic), Payload: []byte(payload), QoS: 1}
}

// sees checks what a client was told, if it says so.
func (s *stage) sees(what string, got, want int) {
	s.Helper()
	if got != hidden && got != want {
		s.Fatalf("%s is %#x, not %#x", what, got, want)
	}
}

// scenarios are what every client goes through.
var scenarios = []struct {
	name string
	v5   bool // only MQTT 5 has it
	once bool // takes time, and the transport makes no difference: over TCP only
	play func(*stage)
}{
	{name: "each QoS both ways", play: eachQoS},
	{name: "QoS lowered to that of the subscription", play: loweredQoS},
	{name: "wildcards", play: wildcards},
	{name: "retained", play: retained},
	{name: "will", play: will},
	{name: "resumed session", play: resumedSession},
	{name: "large payload", play: largePayload},
	{name: "refusals", play: refusals},
	{name: "properties", v5: true, play: properties},
	{name: "request and response", v5: true, play: requestAndResponse},
	{name: "subscription identifier", v5: true, play: subscriptionIdentifier},
	{name: "shared subscription", v5: true, play: sharedSubscription},
	{name: "topic alias to the broker", v5: true, play: aliasToBroker},
	{name: "topic alias from the broker", v5: true, play: aliasFromBroker},
	{name: "nobody subscribes", v5: true, play: nobodySubscribes},
	{name: "message expiry", v5: true, once: true, play: messageExpiry},
}

func eachQoS(s *stage) {
	tested := s.tested(joining{Wishes: []wish{{Filter: s.topic("in/#"), QoS: 2}}})
	other := s.other(joining{Wishes: []wish{{Filter: s.topic("out/#"), QoS: 2}}})
	for qos := range byte(3) {
		in := letter{Topic: s.topic("in/a"), Payload: []byte{'i', qos}, QoS: qos}
		s.sees("the reason code", other.publish(s, in), 0)
		tested.received().expect(s, in)
		out := letter{Topic: s.topic("out/a"), Payload: []byte{'o', qos}, QoS: qos}
		s.sees("the reason code", tested.publish(s, out), 0)
		other.received().expect(s, out)
	}
}

// [MQTT-3.8.4-8]
func loweredQoS(s *stage) {
	for qos := range byte(2) {
		filter := s.topic(fmt.Sprint(qos))
		tested := s.tested(joining{Wishes: []wish{{Filter: filter, QoS: qos}}})
		if got := tested.granted(); !slices.Equal(got, []int{int(qos)}) {
			s.Fatalf("granted %v", got)
		}
		l := letter{Topic: filter, Payload: []byte("lowered"), QoS: 2}
		s.other(joining{}).publish(s, l)
		tested.received().expect(s, l.at(qos))
	}
}

func wildcards(s *stage) {
	tested := s.tested(joining{Wishes: []wish{{Filter: s.topic("+/x"), QoS: 1}, {Filter: s.topic("deep/#"), QoS: 1}}})
	other := s.other(joining{})
	match := []letter{s.text("1/x", "+"), s.text("2/x", "+"), s.text("deep", "# has the parent"), s.text("deep/a/b", "#")}
	for _, l := range match {
		other.publish(s, s.text("1/y", "not for us"), s.text("1/y", "not for us either"))
		other.publish(s, s.text("1/x/z", "nor this"))
		other.publish(s, l)
	}
	tested.received().expect(s, match...)
}

// [MQTT-3.3.1-6] [MQTT-3.3.1-9]
func retained(s *stage) {
	filter := []wish{{Filter: s.topic("kept"), QoS: 1}}
	l := s.text("kept", "old").kept()
	publisher, other := s.tested(joining{}), s.other(joining{Wishes: filter})
	publisher.publish(s, l)
	other.received().expect(s, l.at(1))
	tested := s.tested(joining{Wishes: filter})
	tested.received().expect(s, l)
	gone := s.text("kept", "").kept()
	publisher.publish(s, gone)
	tested.received().expect(s, gone.at(1))
	late, marker := s.tested(joining{Wishes: filter}), s.text("kept", "nothing was kept")
	publisher.publish(s, marker)
	late.received().expect(s, marker)
}

// [MQTT-3.1.2-8] [MQTT-3.14.4-3]
func will(s *stage) {
	other := s.other(joining{Wishes: []wish{{Filter: s.topic("will/#"), QoS: 1}}})
	said, polite, lost := s.text("will/said", "hello"), s.text("will/of", "who has left"), s.text("will/of", "who was cut off")
	leaver := s.tested(joining{Will: &polite})
	leaver.publish(s, said)
	leaver.leave()
	s.tested(joining{Will: &lost, Wishes: []wish{{Filter: s.topic("in")}}}).drop()
	other.received().expect(s, said, lost)
}

// [MQTT-3.1.2-5] [MQTT-3.2.2-3]
func resumedSession(s *stage) {
	again := joining{ID: s.id("sleeper"), Resume: true, Expiry: 300, Wishes: []wish{{Filter: s.topic("in/#"), QoS: 2}}}
	first := s.tested(again)
	s.sees("session present", first.resumed(), 0)
	first.leave()
	other := s.other(joining{})
	var queued []letter
	for i := range 20 {
		l := s.text("in/a", fmt.Sprintf("queued %02d", i))
		l.QoS = byte(i%2) + 1
		other.publish(s, l)
		queued = append(queued, l)
	}
	again.Wishes = nil
	second := s.tested(again)
	s.sees("session present", second.resumed(), 1)
	second.received().expect(s, queued...)
	second.leave()
	anew := s.tested(joining{ID: again.ID})
	s.sees("session present", anew.resumed(), 0)
}

func largePayload(s *stage) {
	tested := s.tested(joining{Wishes: []wish{{Filter: s.topic("in"), QoS: 1}}})
	other := s.other(joining{Wishes: []wish{{Filter: s.topic("out"), QoS: 2}}})
	payload := bytes.Repeat([]byte{0x00, 0xff, 0xc0, 0x80, '\n', 'x', 7}, 300<<10/7)
	in := letter{Topic: s.topic("in"), Payload: payload, QoS: 1}
	other.publish(s, in)
	tested.received().expect(s, in)
	out := letter{Topic: s.topic("out"), Payload: payload, QoS: 2}
	tested.publish(s, out)
	other.received().expect(s, out)
}

// What the policy refuses: MQTT 5 says so; MQTT 3 says it of subscriptions, and acknowledges messages all the same. [MQTT-3.8.4-7]
func refusals(s *stage) {
	refused := 0x80
	if s.version == "5" {
		refused = 0x87
	}
	tested := s.tested(joining{Wishes: []wish{{Filter: s.topic("in"), QoS: 1}, {Filter: "forbidden/#", QoS: 1}}})
	if got := tested.granted(); s.version != "3.1" && !slices.Equal(got, []int{1, refused}) {
		s.Fatalf("granted %#x", got)
	}
	reason := tested.publish(s, letter{Topic: "forbidden/a", Payload: []byte("no"), QoS: 1})
	if s.version == "5" {
		s.sees("the reason code", reason, refused)
	}
	l := s.text("in", "the connection goes on")
	s.other(joining{}).publish(s, l)
	tested.received().expect(s, l)
}

// full is a letter with everything that MQTT 5 hands through. [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
func (s *stage) full(topic string) letter {
	l := s.text(topic, `{"temperature": 21.5}`)
	l.ContentType, l.ResponseTopic, l.Correlation = "application/json", s.topic("answers"), []byte("request 7")
	l.User = [][2]string{{"unit", "°C"}, {"unit", "Celsius"}, {"site", "plant"}}
	return l
}

func properties(s *stage) {
	tested := s.tested(joining{Wishes: []wish{{Filter: s.topic("in"), QoS: 1}}})
	other := s.other(joining{Wishes: []wish{{Filter: s.topic("out"), QoS: 1}}})
	other.publish(s, s.full("in"))
	tested.received().expect(s, s.full("in"))
	tested.publish(s, s.full("out"))
	other.received().expect(s, s.full("out"))
}

func requestAndResponse(s *stage) {
	tested := s.tested(joining{Wishes: []wish{{Filter: s.topic("service"), QoS: 1}}})
	other := s.other(joining{Wishes: []wish{{Filter: s.topic("answers"), QoS: 1}}})
	other.publish(s, s.full("service"))
	request := tested.received().take(s, 1)[0]
	answer := letter{Topic: request.ResponseTopic, Correlation: request.Correlation, Payload: []byte("done"), QoS: 1}
	tested.publish(s, answer)
	want := s.text("answers", "done")
	want.Correlation = []byte("request 7")
	other.received().expect(s, want)
}

func subscriptionIdentifier(s *stage) {
	tested := s.tested(joining{Wishes: []wish{{Filter: s.topic("in/#"), QoS: 1, Identifier: 268_435_455}}})
	l := s.text("in/a", "labelled")
	s.other(joining{}).publish(s, l)
	l.Identifiers = []int{268_435_455}
	tested.received().expect(s, l)
}

// Each message goes to one of two members, and both get some.
func sharedSubscription(s *stage) {
	wishes := []wish{{Filter: "$share/group/" + s.topic("work"), QoS: 1}}
	one, two := s.tested(joining{Wishes: wishes}), s.tested(joining{Wishes: wishes})
	other := s.other(joining{})
	var sent []letter
	for i := range 20 {
		sent = append(sent, s.text("work", fmt.Sprintf("job %02d", i)))
		other.publish(s, sent[i])
	}
	Await(s, "all jobs", func() bool { return len(one.received().all())+len(two.received().all()) >= len(sent) })
	first, second := one.received().take(s, 1), two.received().take(s, 1)
	all := &mailbox{list: append(first, second...)}
	all.expect(s, sent...)
}

// [MQTT-3.3.2-12]
func aliasToBroker(s *stage) {
	other := s.other(joining{Wishes: []wish{{Filter: s.topic("out"), QoS: 1}}})
	named, unnamed := s.text("out", "with topic and alias"), s.text("out", "with the alias only")
	named.Alias = 3
	short := letter{Payload: unnamed.Payload, QoS: 1, Alias: 3}
	s.tested(joining{}).publish(s, named, short)
	other.received().expect(s, named, unnamed)
}

// Names are whole again where a client hands them over, whatever was sent.
func aliasFromBroker(s *stage) {
	tested := s.tested(joining{Aliases: interopAliases, Wishes: []wish{{Filter: s.topic("in"), QoS: 1}}})
	other := s.other(joining{})
	one, two := s.text("in", "one"), s.text("in", "two")
	other.publish(s, one)
	other.publish(s, two)
	got := tested.received().take(s, 2)
	if got[0].String() != one.String() || got[1].String() != two.String() {
		s.Fatalf("received %v", got)
	}
	if got[1].Alias == 0 {
		s.Skip("the broker set no topic alias, or the client does not tell or take one")
	}
}

// The reason code that says so is no error. [MQTT-3.4.2-1]
func nobodySubscribes(s *stage) {
	s.sees("the reason code", s.tested(joining{}).publish(s, s.text("out", "to nobody")), 0x10)
}

// What waits for a client shrinks, and is dropped in the end. [MQTT-3.3.2-5] [MQTT-3.3.2-6]
func messageExpiry(s *stage) {
	again := joining{ID: s.id("sleeper"), Resume: true, Expiry: 300, Wishes: []wish{{Filter: s.topic("in"), QoS: 1}}}
	s.tested(again).leave()
	short, long := s.text("in", "too late"), s.text("in", "in time")
	short.Expiry, long.Expiry = 1, 1000
	other := s.other(joining{})
	other.publish(s, short)
	other.publish(s, long)
	<-time.After(1100 * time.Millisecond) // the standard counts from when the broker has it, so this must be over
	again.Wishes = nil
	tested := s.tested(again)
	got := tested.received().take(s, 1)
	if got[0].String() != long.String() || got[0].Expiry == 0 || got[0].Expiry >= 1000 {
		s.Fatalf("received %v with %d s left", got, got[0].Expiry)
	}
}
