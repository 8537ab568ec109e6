package atls_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// tap is a client's connection that keeps what passes, as somebody on the network sees it.
type tap struct {
	net.Conn
	mu             sync.Mutex
	toServer, back bytes.Buffer
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.back.Write(b[:n])
	return n, err
}

func (c *tap) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.toServer.Write(b)
	c.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *tap) seen() (toServer, back []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.toServer.Bytes()), bytes.Clone(c.back.Bytes())
}

// records returns the lengths of the TLS records in a stream.
func records(t testing.TB, stream []byte) (lengths []int) {
	t.Helper()
	for len(stream) > 0 {
		if len(stream) < 5 {
			t.Fatal("stream ends within a record")
		}
		n := int(binary.BigEndian.Uint16(stream[3:]))
		lengths = append(lengths, n)
		stream = stream[min(5+n, len(stream)):]
	}
	return lengths
}

// capture is one connection with an exchange of application data, and what an observer must not learn of it.
type capture struct {
	toServer, back []byte
	secrets        map[string][]byte
}

// run connects through a tap, exchanges a message each way and closes.
func (r *rig) capture(t testing.TB, addr string, outcomes chan accepted) *capture {
	t.Helper()
	raw := &tap{Conn: Must(net.Dial("tcp", addr))(t)}
	spy := &spyVerifier{}
	config := r.client
	nonces := &keepingReader{}
	config.Rand = nonces
	if config.Server != nil {
		config.Server = policy.NewAppraiser(config.Server.Policy(), attest.NewRegistry(spy))
	}
	conn, err := atls.Client(testContext(t), raw, &config)
	if err != nil {
		t.Fatal(err)
	}
	server := admitted(t, outcomes)
	exchange(t, conn, server)
	c := &capture{secrets: map[string][]byte{"service name": []byte(service)}}
	c.toServer, c.back = raw.seen()
	conn.Close()
	n := [32]byte(nonces.got[:32])
	c.secrets["nonce"], c.secrets["label of the nonce"] = n[:], []byte(label(n))
	if config.Server != nil {
		c.secrets["report data"], c.secrets["quote"] = spy.want[:], spy.quote[:64]
		c.secrets["end of the quote"] = spy.quote[len(spy.quote)-32:]
	}
	c.secrets["runtime digest"], c.secrets["instance"] = brokerIdentity.Runtime[:], []byte(brokerIdentity.Instance)
	c.secrets["module digest"], c.secrets["configuration digest"] = brokerIdentity.Module[:], brokerIdentity.Config[:]
	c.secrets["object identifier of evidence in certificates"], _ = hex.DecodeString("06082b06010505070123")
	for _, carrier := range []string{"n1", "p1", "x1"} {
		c.secrets["carrier "+carrier] = []byte("." + carrier + ".")
	}
	return c
}

func exchange(t testing.TB, client, server net.Conn) {
	t.Helper()
	buf := make([]byte, 64)
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		if _, err := pair[0].Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(pair[1], buf); err != nil {
			t.Fatal(err)
		}
	}
}

type keepingReader struct{ got []byte }

func (k *keepingReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(len(k.got)*7 + 13)
		k.got = append(k.got, b[i])
	}
	return len(b), nil
}

// spyVerifier keeps what the client verified, and calls back when it does.
type spyVerifier struct {
	sim.Verifier
	want  attest.ReportData
	quote []byte
	now   func()
}

func (s *spyVerifier) Verify(ctx context.Context, q attest.Quote, want attest.ReportData, now time.Time) (attest.PlatformClaims, error) {
	s.want, s.quote = want, q.Data
	if s.now != nil {
		s.now()
	}
	return s.Verifier.Verify(ctx, q, want, now)
}

// words are short enough to turn up in ciphertext by chance: they count as a leak only if all captures have them.
var words = []string{"sgx", "tdx", "sev", "tpm", "attest", "vouch"}

// leaks is the checker: it returns what an observer of these connections learns that it must not.
func leaks(captures ...*capture) (found []string) {
	for i, c := range captures {
		for name, secret := range c.secrets {
			if bytes.Contains(c.toServer, secret) || bytes.Contains(c.back, secret) {
				found = append(found, fmt.Sprintf("connection %d: %s", i, name))
			}
		}
	}
	for _, word := range words {
		everywhere := true
		for _, c := range captures {
			all := bytes.ToLower(append(bytes.Clone(c.toServer), c.back...))
			everywhere = everywhere && bytes.Contains(all, []byte(word))
		}
		if everywhere {
			found = append(found, "word "+word)
		}
	}
	return found
}

// shapesDiffer compares the record lengths of two connections, allowing for the size of ECDSA signatures.
func shapesDiffer(t testing.TB, a, b *capture) error {
	for _, pair := range [][2][]int{{records(t, a.toServer), records(t, b.toServer)}, {records(t, a.back), records(t, b.back)}} {
		if len(pair[0]) != len(pair[1]) {
			return fmt.Errorf("records %v and %v", pair[0], pair[1])
		}
		for i := range pair[0] {
			if d := pair[0][i] - pair[1][i]; d < -3 || d > 3 {
				return fmt.Errorf("records %v and %v", pair[0], pair[1])
			}
		}
	}
	return nil
}

// TestPrivacy: an observer cannot tell an attested connection from one that asks for no evidence, and learns
// nothing of what is verified.
func TestPrivacy(t *testing.T) {
	r := newRig(t)
	addr, outcomes := start(t, r.server)
	attested := []*capture{r.capture(t, addr, outcomes), r.capture(t, addr, outcomes), r.capture(t, addr, outcomes)}
	r.client.Unattested, r.client.Server = true, nil
	other := r.capture(t, addr, outcomes)

	if found := leaks(attested...); len(found) > 0 {
		t.Errorf("attested connections leak: %v", found)
	}
	for name, secret := range other.secrets {
		if bytes.Contains(other.toServer, secret) || bytes.Contains(other.back, secret) {
			t.Errorf("unattested connection leaks: %s", name)
		}
	}
	for i, c := range attested {
		if err := shapesDiffer(t, c, other); err != nil {
			t.Errorf("attested connection %d differs from unattested: %v", i, err)
		}
	}
	if !bytes.Contains(other.toServer, []byte(publicName)) {
		t.Error("control: the public name is not seen, so the tap sees nothing")
	}
}

// TestMutualLeaksNoBytes: a client that attests sends a larger record; nothing of it is in clear.
func TestMutualLeaksNoBytes(t *testing.T) {
	r := newRig(t).mutual(t)
	addr, outcomes := start(t, r.server)
	captures := []*capture{r.capture(t, addr, outcomes), r.capture(t, addr, outcomes), r.capture(t, addr, outcomes)}
	for _, c := range captures {
		c.secrets["module digest of the client"] = sensorIdentity.Module[:]
	}
	if found := leaks(captures...); len(found) > 0 {
		t.Errorf("leaks: %v", found)
	}
}

// TestEvidenceInFirstFlight: everything up to the ticket comes although not one byte of the client beyond its
// hello has arrived. If a later Go sends the ticket after the client's Finished, nothing comes: attested TLS
// would still be safe, and cost a round trip.
func TestEvidenceInFirstFlight(t *testing.T) {
	r := newRig(t)
	addr, _ := start(t, r.server)
	flight := make(chan int, 1)
	held := serve(t, func(client net.Conn) {
		server := Must(net.Dial("tcp", addr))(t)
		defer server.Close()
		// Forward the client's first record, its hello, and hold back all others.
		header := make([]byte, 5)
		io.ReadFull(client, header)
		io.CopyN(server, io.MultiReader(bytes.NewReader(header), client), 5+int64(binary.BigEndian.Uint16(header[3:])))
		n, _ := io.CopyN(client, server, 10240)
		flight <- int(n)
		go io.Copy(client, server)
		io.Copy(server, client) // until the client goes
	})
	conn, err := dial(t, held, r.client)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if n := Receive(t, flight); n < 10240 {
		t.Errorf("first flight had %d bytes: the ticket was not in it", n)
	}
}

// TestNothingLeavesBeforeVerification counts what the client has sent when its verifier is called.
func TestNothingLeavesBeforeVerification(t *testing.T) {
	r := newRig(t).mutual(t)
	addr, outcomes := start(t, r.server)
	raw := &tap{Conn: Must(net.Dial("tcp", addr))(t)}
	var before []int
	spy := &spyVerifier{now: func() {
		toServer, _ := raw.seen()
		before = records(t, toServer)
	}}
	config := r.client
	config.Server = policy.NewAppraiser(config.Server.Policy(), attest.NewRegistry(spy))
	conn := Must(atls.Client(testContext(t), raw, &config))(t)
	defer conn.Close()
	exchange(t, conn, Receive(t, outcomes).conn)

	toServer, _ := raw.seen()
	after := records(t, toServer)
	// Hello, the one byte of ChangeCipherSpec, Finished: 4 bytes of header, 32 or 48 of hash, type and tag.
	if len(before) != 3 || before[1] != 1 || before[2] > 4+48+17 {
		t.Errorf("before verification the client had sent records %v", before)
	}
	// Then its evidence, then the application.
	if len(after) != 5 {
		t.Errorf("in the end it had sent %v", after)
	}
}
