package abi

import (
	"reflect"
	"testing"
)

// messages is every kind of data that is appended and read whole, with an example in which each field has another value.
var messages = map[string]func(t *testing.T) (encoded []byte, read func([]byte) error){
	"authentication request": example(AppendAuthRequest, ReadAuthRequest, AuthRequest{
		Stage: AuthReconnect, ClientID: "c", HasUser: true, User: "u", Password: []byte{0, 1}, Method: "m", Data: []byte{2},
	}),
	"authentication answer": example(AppendAuthAnswer, ReadAuthAnswer, AuthAnswer{User: "u", Data: []byte{1, 2}, Reason: "r"}),
	"publication":           example(AppendPublication, ReadPublication, Publication{Topic: "t", Payload: []byte("p"), QoS: 2, Retain: true}),
	"question":              example(AppendQuestion, ReadQuestion, Question{Kind: AskRetained, Cursor: 1, Limit: 2, Arg: 3, Text: "x"}),
	"connected": example(AppendConnected, ReadConnected, Connected{
		ClientID: "c", User: "u", Version: 5, KeepAlive: 60, CleanStart: true, Expiry: 7,
	}),
	"disconnected": example(AppendDisconnected, ReadDisconnected, Disconnected{ClientID: "c", Reason: 0x8b, Orderly: true}),
	"subscribed":   example(appendSubscribed, ReadSubscribed, Subscribed{ClientID: "c", Filter: "a/#", Reason: 2}),
	"limit":        example(AppendLimitMet, ReadLimitMet, LimitMet{Limit: LimitTopic, ClientID: "c"}),
}

func appendSubscribed(b []byte, s *Subscribed) []byte {
	return AppendSubscribed(b, []byte(s.ClientID), []byte(s.Filter), s.Reason)
}

func example[T any](add func([]byte, *T) []byte, read func([]byte, *T) error, value T) func(*testing.T) ([]byte, func([]byte) error) {
	return func(t *testing.T) ([]byte, func([]byte) error) {
		encoded := add(nil, &value)
		var got T
		if err := read(encoded, &got); err != nil || !reflect.DeepEqual(got, value) {
			t.Errorf("got %+v, error %v, want %+v", got, err, value)
		}
		return encoded, func(b []byte) error { return read(b, new(T)) }
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	for name, example := range messages {
		t.Run(name, func(t *testing.T) {
			encoded, read := example(t)
			for n := range encoded {
				if read(encoded[:n]) == nil {
					t.Errorf("%d of %d bytes are accepted", n, len(encoded))
				}
			}
			if read(append(encoded, 0)) == nil {
				t.Error("one byte too many is accepted")
			}
		})
	}
}

var (
	sampleSession = SessionRecord{
		ClientID: "c", User: "u", Identity: "i", Conn: 1, Version: 5, Expiry: 2, ExpiresIn: 3, KeepAlive: 4, Subscriptions: 5,
		Queued: 6, QueuedBytes: 7, Inflight: 8, Received: 9, Will: true,
	}
	sampleSubscription = SubscriptionRecord{
		ClientID: "c", Filter: "f", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 1, Identifier: 3,
	}
	sampleRetained = RetainedRecord{Topic: "t", Size: 1, QoS: 2, ExpiresIn: 3}
)

func TestAnswersRoundTrip(t *testing.T) {
	testRecords(t, &sampleSession, AppendSessionRecord, (*Answer).Sessions)
	testRecords(t, &sampleSubscription, AppendSubscriptionRecord, (*Answer).Subscriptions)
	testRecords(t, &sampleRetained, AppendRetainedRecord, (*Answer).Retained)
}

func testRecords[T any](t *testing.T, record *T, add func([]byte, *T) []byte, read func(*Answer) ([]T, error)) {
	t.Helper()
	const before = 3
	b := BeginAnswer(make([]byte, before), AskRetained)
	b = add(add(b, record), record)
	EndAnswer(b, before, 77, 2)
	var a Answer
	if err := ReadAnswer(b[before:], &a); err != nil || a.Kind != AskRetained || a.Cursor != 77 || a.Count != 2 {
		t.Fatalf("answer %+v, error %v", a, err)
	}
	list, err := read(&a)
	if err != nil || len(list) != 2 || !reflect.DeepEqual(list[1], *record) {
		t.Errorf("got %+v, error %v, want twice %+v", list, err, *record)
	}
	a.Count = 3
	if _, err := read(&a); err == nil {
		t.Error("an answer with fewer records than it says is accepted")
	}
	a.Count, a.Records = 2, a.Records[:len(a.Records)-1]
	if _, err := read(&a); err == nil {
		t.Error("an answer that is cut short is accepted")
	}
}

// FuzzRecords reads arbitrary bytes as everything that has fields.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(nil))
	b := BeginAnswer(nil, AskSessions)
	f.Add(AppendSessionRecord(b, &sampleSession))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, example := range messages {
			_, read := example(t)
			_ = read(b)
		}
		var a Answer
		if ReadAnswer(b, &a) == nil {
			_, _ = a.Sessions()
			_, _ = a.Subscriptions()
			_, _ = a.Retained()
		}
	})
}
