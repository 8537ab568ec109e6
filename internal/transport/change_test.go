package transport

import (
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// recorder is an engine that writes down which connections it is to end.
type recorder struct {
	Engine
	ended []uint32
}

func (r *recorder) PostNow(kind abi.EventKind, _ abi.Conn, _, arg uint32, _ []byte) bool {
	if kind == abi.EventDisconnect {
		r.ended = append(r.ended, arg)
	}
	return true
}

func answer(reason uint32) func() (uint32, error) {
	return func() (uint32, error) { return reason, nil }
}

func TestRecheckEndsWhoWouldNotBeLetIn(t *testing.T) {
	engine := new(recorder)
	tr := New(Config{})
	tr.engine = engine
	var conns []*conn
	for range 4 {
		c := &conn{transport: tr, log: tr.log}
		if !tr.table.add(c) {
			t.Fatal("no room")
		}
		conns = append(conns, c)
	}
	before := tr.rechecks.Load()
	conns[0].admitted(answer(0), before)
	conns[1].admitted(answer(0x87), before)
	conns[2].admitted(nil, before) // nothing is asked
	if n := tr.Recheck(); n != 1 || len(engine.ended) != 1 || engine.ended[0] != 0x87 {
		t.Fatalf("%d ended: %v", n, engine.ended)
	}
	// A handshake that began before the change, and ended after it.
	conns[3].admitted(answer(0x98), before)
	if len(engine.ended) != 2 || engine.ended[1] != 0x98 {
		t.Fatalf("ended: %v", engine.ended)
	}
}

func TestSetLimits(t *testing.T) {
	tr := New(Config{Limits: Limits{MaxConnections: 2}})
	if fixed := tr.SetLimits(Limits{MaxConnections: 1, MaxPacketSize: 99, MaxHandshakes: 7}); len(fixed) != 0 {
		t.Errorf("fixed: %v", fixed)
	}
	if tr.table.most() != 1 || tr.maxPacketSize.Load() != 99 || tr.handshakes.limit != 7 {
		t.Error("limits are not those that were set")
	}
	if !tr.table.add(new(conn)) || tr.table.add(new(conn)) {
		t.Error("the table does not hold one connection")
	}
	if fixed := tr.SetLimits(Limits{StallAfter: time.Hour, SoftBacklog: 1 << 20}); len(fixed) != 2 {
		t.Errorf("fixed: %v", fixed)
	}
}
