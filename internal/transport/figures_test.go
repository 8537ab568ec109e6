package transport

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

func TestFigures(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	sub, pub := b.subscriber(t), b.dial(t)
	before := time.Now()
	write(t, pub, append(messages(0, 1, 10), 0xC0, 0))
	expect(t, sub, 10*packetSize)
	expect(t, pub, 2)
	wantPub := Figures{BytesIn: 10*packetSize + 2, PacketsIn: 11, PublishesIn: 10, BytesOut: 2, PacketsOut: 1}
	wantSub := Figures{BytesIn: 2, PacketsIn: 1, BytesOut: 10*packetSize + 2, PacketsOut: 11, PublishesOut: 10}
	var sum Figures
	sum.add(wantPub)
	sum.add(wantSub)
	testkit.Await(t, "the figures", func() bool { return b.Stats().Figures == sum })
	for _, c := range b.Connections() {
		want := wantSub
		if c.Address.String() == pub.LocalAddr().String() {
			want = wantPub
		}
		if c.Figures != want || c.Listener != "test" || c.Since.IsZero() || c.Since.After(before.Add(time.Minute)) || c.Backlog != 0 || c.Stalled {
			t.Errorf("connection %+v, want %+v", c, want)
		}
		if again, ok := b.Connection(c.Conn); !ok || again != c {
			t.Errorf("connection %+v alone is %+v", c, again)
		}
	}
	_ = pub.Close()
	testkit.Await(t, "the end", func() bool { return b.Stats().Connections == 1 })
	if got := b.Stats().Figures; got != sum {
		t.Fatalf("figures %+v, want %+v", got, sum)
	}
	if _, ok := b.Connection(0); ok {
		t.Fatal("there is a connection 0")
	}
}

// Answers and notes of the core reach the server; the log shows what is private as the server wants.
func TestAnswersAndNotes(t *testing.T) {
	var answers, notes []string
	log := &testkit.Buffer{}
	tr := New(Config{
		Log:    slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Answer: func(number uint32, data []byte) { answers = append(answers, string(rune('0'+number))+string(data)) },
		Notes:  func(_ abi.Conn, note abi.Note, data []byte) { notes = append(notes, string(rune('0'+note))) },
		Redact: func(string) string { return "#1" },
	})
	effects := make([]byte, abi.EffectsHeaderSize)
	effects = abi.AppendEffect(effects, abi.EffectAnswer, 0, 0, 7, []byte("x"))
	note := func(n abi.Note, data []byte) {
		effects = abi.AppendEffect(effects, abi.EffectNote, 0, 9, uint32(n), data)
	}
	note(abi.NoteConnected, abi.AppendConnected(nil, &abi.Connected{ClientID: "secret"}))
	note(abi.NoteDisconnected, abi.AppendDisconnected(nil, &abi.Disconnected{ClientID: "secret"}))
	note(abi.NoteSubscribed, abi.AppendSubscribed(nil, []byte("secret"), []byte("secret"), 0))
	note(abi.NoteUnsubscribed, abi.AppendSubscribed(nil, []byte("secret"), []byte("secret"), 0))
	note(abi.NoteLimit, abi.AppendLimitMet(nil, &abi.LimitMet{ClientID: "secret"}))
	note(abi.NoteDropped, []byte("secret"))
	note(abi.NoteDenied, abi.AppendSubscribed(nil, []byte("secret"), []byte("secret"), 0x87))
	note(99, []byte("secret"))
	if err := tr.Apply(effects, boundedMemory(nil)); err != nil {
		t.Fatal(err)
	}
	if len(answers) != 1 || answers[0] != "7x" || len(notes) != 8 {
		t.Fatalf("answers %q, notes %q", answers, notes)
	}
	if s := log.String(); strings.Contains(s, "secret") || strings.Count(s, "#1") != 10 || strings.Contains(s, "cannot be read") {
		t.Fatalf("log %s", s)
	}
}

// Looking at connections must not disturb them.
func TestFiguresWhileConnectionsComeAndGo(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			c, err := net.Dial("tcp", b.addr)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = c.Write([]byte{0xC0, 0})
			_ = c.Close()
		}
	}()
	var last uint64
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		b.Connections()
		now := b.Stats().Figures.BytesIn
		if now < last {
			t.Fatalf("from %d to %d bytes", last, now)
		}
		last = now
	}
	testkit.Await(t, "all bytes", func() bool { return b.Stats().Figures.BytesIn == 200 })
}

// The log of a connection that has ended is there until the core tells of the end, and not for who has the slot after it.
func TestFarewell(t *testing.T) {
	var tb table
	tb.init(10)
	first, second := &conn{log: slog.Default()}, &conn{log: slog.New(slog.DiscardHandler)}
	tb.add(first)
	if tb.farewell(first.id) != nil {
		t.Error("a connection that stands has left")
	}
	tb.remove(first)
	tb.add(second)
	if tb.farewell(second.id) != nil || tb.farewell(first.id) != first.log || tb.farewell(first.id) != nil {
		t.Error("the first connection has not left once")
	}
	tb.remove(second)
	if tb.farewell(first.id) != nil || tb.farewell(second.id) != second.log || tb.farewell(1<<abi.SlotBits-1) != nil {
		t.Error("the second connection has not left")
	}
}
