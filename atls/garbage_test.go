package atls_test

import (
	"runtime"
	"testing"

	"github.com/vouchmq/vouchmq/atls"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// What a handshake leaves for the collector, both ends together, compared with ordinary TLS: counts that do not depend on the
// machine. Most of what an attested one has more is crypto/tls's: two hellos, HPKE, and copies of the ticket.
func TestGarbageOfHandshakes(t *testing.T) {
	if raced {
		t.Skip("the race detector lets pools forget")
	}
	r := newRig(t)
	ordinary, attested := garbage(t, r, atls.Ordinary), garbage(t, r, atls.N1)
	t.Logf("ordinary: %d bytes in %d pieces; attested: %d in %d", ordinary.bytes, ordinary.pieces, attested.bytes, attested.pieces)
	if more := attested.bytes - ordinary.bytes; more > mostBytes {
		t.Errorf("an attested handshake leaves %d bytes more than an ordinary one, and %d are expected at most", more, mostBytes)
	}
	if more := attested.pieces - ordinary.pieces; more > mostPieces {
		t.Errorf("an attested handshake leaves %d pieces more than an ordinary one, and %d are expected at most", more, mostPieces)
	}
}

const (
	mostBytes  = 145_000
	mostPieces = 820
)

type amount struct{ bytes, pieces int }

// garbage measures a handshake, and the end of its connection.
func garbage(t *testing.T, r *rig, carrier atls.Carrier) amount {
	const count = 100
	addr, outcomes := start(t, r.server)
	var before, after runtime.MemStats
	for i := range count + 1 {
		client := connectAs(t, r, addr, carrier)
		conn := Receive(t, outcomes).conn
		client.Close()
		conn.Close()
		if i == 0 { // what is made once is there
			runtime.ReadMemStats(&before)
		}
	}
	runtime.ReadMemStats(&after)
	return amount{int(after.TotalAlloc-before.TotalAlloc) / count, int(after.Mallocs-before.Mallocs) / count}
}
