package atls_test

import (
	"crypto/tls"
	"net"
	"runtime"
	"testing"

	"github.com/vouchmq/vouchmq/atls"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// What the server's end of a connection keeps once its handshake is done: little more with evidence than without. Each
// ClientHello that is kept, and each configuration, is some kilobytes more.
func TestMemoryOfConnections(t *testing.T) {
	r := newRig(t)
	ordinary := heldByServer(t, r, atls.Ordinary)
	attested := heldByServer(t, r, atls.N1)
	t.Logf("ordinary: %d bytes, attested: %d", ordinary, attested)
	if ordinary > 10<<10 || attested > 13<<10 {
		t.Errorf("an ordinary connection keeps %d bytes, an attested one %d", ordinary, attested)
	}
}

// heldByServer returns how many bytes of heap a connection takes at the server when nothing is left of the client's end.
func heldByServer(t *testing.T, r *rig, carrier atls.Carrier) int {
	const count = 200
	addr, outcomes := start(t, r.server)
	held := make([]*atls.Conn, 0, count+1)
	before := 0
	for i := range count + 1 {
		client := connectAs(t, r, addr, carrier)
		held = append(held, Receive(t, outcomes).conn)
		client.Close()
		if i == 0 { // what is made once is there
			before = live()
		}
	}
	each := (live() - before) / count
	runtime.KeepAlive(held)
	return each
}

func connectAs(t *testing.T, r *rig, addr string, carrier atls.Carrier) net.Conn {
	if carrier == atls.Ordinary {
		return Must[net.Conn](tls.Dial("tcp", addr, ordinaryTLS(r)))(t)
	}
	return Must(atls.Dial(testContext(t), dialer(addr), &r.client))(t)
}

func live() int {
	runtime.GC()
	runtime.GC() // pools keep things for one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
