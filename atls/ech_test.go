package atls_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// countingDialer counts connections.
func countingDialer(addr string, dials *int) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { *dials++; return dialer(addr)(ctx) }
}

// TestECHRotation: the old key still serves, and once it is gone clients are told the new one.
func TestECHRotation(t *testing.T) {
	next := Must(atls.NewECHKey(publicName, 2))(t)
	for name, test := range map[string]struct {
		keys  func(r *rig) []*atls.ECHKey
		dials int
	}{
		"both generations": {func(r *rig) []*atls.ECHKey { return []*atls.ECHKey{next, r.ech} }, 1},
		"only the new one": {func(*rig) []*atls.ECHKey { return []*atls.ECHKey{next} }, 2},
	} {
		for _, carrier := range []atls.Carrier{atls.N1, atls.P1} {
			t.Run(name+"/"+string(carrier), func(t *testing.T) {
				r := newRig(t).authenticated(t)
				r.client.Carrier, r.server.ECHKeys = carrier, test.keys(r)
				addr, outcomes := start(t, r.server)
				dials := 0
				nonces := &recordingReader{zeros: zeros{}}
				r.client.Rand = nonces
				conn, err := atls.Dial(testContext(t), countingDialer(addr, &dials), &r.client)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if dials != test.dials || nonces.reads != test.dials {
					t.Errorf("%d connections with %d nonces, want %d", dials, nonces.reads, test.dials)
				}
				if p := conn.Peer(); !p.Attested || p.Carrier != carrier {
					t.Errorf("the last connection is of another kind: %+v", p)
				}
				for range test.dials {
					Receive(t, outcomes)
				}
			})
		}
	}
}

type recordingReader struct {
	zeros
	reads int
}

func (r *recordingReader) Read(b []byte) (int, error) { r.reads++; return r.zeros.Read(b) }

// TestECHStripped: a server, or a machine in between, that knows no ECH. The client does not fall back.
func TestECHStripped(t *testing.T) {
	for _, carrier := range []atls.Carrier{atls.N1, atls.P1} {
		r := newRig(t).mutual(t).authenticated(t)
		r.client.Carrier = carrier
		rogue := r.rogue()
		rogue.ech, rogue.wantCertificate = nil, true
		addr, got := rogue.serve(t)
		dials := 0
		_, err := atls.Dial(testContext(t), countingDialer(addr, &dials), &r.client)
		wantKind(t, "client", err, attest.ErrECH)
		if dials != 1 {
			t.Errorf("%d connections", dials)
		}
		if data := Receive(t, got); len(data) != 0 {
			t.Error("application data was sent")
		}
	}
}

// TestECHRejectedTwice: one retry, no more.
func TestECHRejectedTwice(t *testing.T) {
	r := newRig(t).mutual(t)
	var mu sync.Mutex
	id := uint8(10)
	addr := serve(t, func(raw net.Conn) {
		mu.Lock()
		id++
		key := Must(atls.NewECHKey(publicName, id))(t) // never the one that was announced before
		mu.Unlock()
		rogue := r.rogue()
		rogue.ech = stolen(key)
		tls.Server(raw, rogue.config()).Handshake()
		raw.Read(make([]byte, 1)) // the client's alert
	})
	dials := 0
	_, err := atls.Dial(testContext(t), countingDialer(addr, &dials), &r.client)
	wantKind(t, "client", err, attest.ErrECH)
	if dials != 2 {
		t.Errorf("%d connections, want 2", dials)
	}
}

// TestECHRetryByImpostor: retry configurations count only under the owner CA.
func TestECHRetryByImpostor(t *testing.T) {
	r, other := newRig(t), newRig(t)
	addr, _ := other.rogue().serve(t)
	dials := 0
	_, err := atls.Dial(testContext(t), countingDialer(addr, &dials), &r.client)
	wantKind(t, "client", err, attest.ErrTLS)
	if dials != 1 {
		t.Errorf("%d connections: the client believed an impostor", dials)
	}
}

func TestECHKeyFile(t *testing.T) {
	key := Must(atls.NewECHKey(publicName, 7))(t)
	again := Must(atls.ParseECHKey(key.Marshal()))(t)
	if !bytes.Equal(again.Marshal(), key.Marshal()) || again.ID() != 7 {
		t.Error("key changed on its way through a file")
	}
	other := Must(atls.NewECHKey(publicName, 7))(t)
	mixed := strings.Replace(string(key.Marshal()), string(key.Marshal()[30:60]), string(other.Marshal()[30:60]), 1)
	for _, bad := range []string{"", "garbage", string(key.Marshal()) + "x", mixed} {
		if _, err := atls.ParseECHKey([]byte(bad)); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestCheckECHConfigList(t *testing.T) {
	a, b := Must(atls.NewECHKey(publicName, 1))(t), Must(atls.NewECHKey("other.example", 2))(t)
	list := atls.ECHConfigList(a, b)
	if name, err := atls.CheckECHConfigList(list); err != nil || name != publicName {
		t.Errorf("%q, %v", name, err)
	}
	for i := range list {
		if _, err := atls.CheckECHConfigList(list[:i]); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("accepted the first %d bytes: %v", i, err)
		}
	}
	// A maximum_name_length other than 0 would tell an observer the length of the inner name.
	leaky := bytes.Clone(atls.ECHConfigList(a))
	leaky[2+4+1+2+2+32+2+4] = 64
	if _, err := atls.CheckECHConfigList(leaky); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("accepted maximum_name_length 64: %v", err)
	}
}
