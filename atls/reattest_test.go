package atls_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// pair is a connection that stands, with both ends in the hands of the test.
type pair struct {
	*rig
	t      testing.TB
	config atls.ServerConfig
	client *atls.Conn
	server *atls.Conn
}

func connected(t testing.TB, change func(*rig)) *pair {
	t.Helper()
	r := newRig(t).mutual(t)
	if change != nil {
		change(r)
	}
	addr, outcomes := start(t, r.server)
	client := Must(dial(t, addr, r.client))(t)
	return &pair{rig: r, t: t, config: r.server, client: client, server: admitted(t, outcomes)}
}

// broker returns what the broker is now.
func (p *pair) broker(change func(*atls.ServerConfig)) *atls.Server {
	p.t.Helper()
	config := p.config
	if change != nil {
		change(&config)
	}
	return Must(atls.NewServer(context.Background(), config))(p.t)
}

// round runs one round of re-attestation, and returns what either side found.
func (p *pair) round(broker *atls.Server) (client, server error) {
	p.t.Helper()
	ctx := testContext(p.t)
	round, request, err := p.client.Reattest()
	if err != nil {
		return err, nil
	}
	judge, challenge, err := broker.Reattest(ctx, p.server, request)
	if err != nil {
		return nil, err
	}
	answer, err := round.Answer(ctx, challenge)
	if err != nil {
		return err, nil
	}
	return nil, judge.Finish(ctx, answer)
}

func TestReattest(t *testing.T) {
	p := connected(t, nil)
	for i := range 3 {
		before := p.client.Peer().Verdict
		if client, server := p.round(p.broker(nil)); client != nil || server != nil {
			t.Fatalf("round %d: %v, %v", i+1, client, server)
		}
		if p.client.Peer().Verdict == before || !p.server.Peer().Attested || p.server.Peer().Identities[0] != "sensor" {
			t.Errorf("round %d: the verdicts are not new", i+1)
		}
	}
	if _, err := p.client.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// Whoever has changed is found out in the next round.
func TestReattestRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*atls.ServerConfig)
		client bool // who refuses
		kind   attest.Kind
	}{
		"other module":        {func(c *atls.ServerConfig) { c.Identity.Module[0] ^= 1 }, true, attest.ErrModule},
		"other configuration": {func(c *atls.ServerConfig) { c.Identity.Config[0] ^= 1 }, true, attest.ErrConfig},
		"other TEE": {func(c *atls.ServerConfig) {
			c.Attester = sim.NewAttester(Must(sim.NewKey())(t), attest.Digest{1})
		}, true, attest.ErrPlatform},
		"no attester": {func(c *atls.ServerConfig) { c.Attester = nil }, false, attest.ErrAttester},
		"policy that knows nobody": {func(c *atls.ServerConfig) {
			c.Clients = appraiser(t, policy.Identity{
				Name: "other", Modules: []attest.Digest{{1}}, Simulated: true, AnyOf: []policy.Requirement{{Platform: attest.Sim}},
			})
		}, false, attest.ErrModule},
		"nobody is judged any more": {func(c *atls.ServerConfig) { c.Clients = nil }, false, attest.ErrMissing},
	} {
		t.Run(name, func(t *testing.T) {
			p := connected(t, nil)
			client, server := p.round(p.broker(test.change))
			refused, other := server, client
			if test.client {
				refused, other = client, server
				if _, err := p.client.Write([]byte("x")); err == nil {
					t.Error("the client's connection is still open")
				}
			}
			if wantKind(t, "round", refused, test.kind); other != nil {
				t.Error(other)
			}
		})
	}
}

// Without evidence at connect there are no rounds, and who has attested once must do so again.
func TestReattestWithoutEvidence(t *testing.T) {
	p := connected(t, func(r *rig) { r.client.Unattested, r.client.Attester = true, nil })
	if p.client.CanReattest() || p.server.CanReattest() {
		t.Error("an unattested connection can be re-attested")
	}
	_, _, err := p.client.Reattest()
	wantKind(t, "client", err, attest.ErrFormat)
	_, _, err = p.broker(nil).Reattest(testContext(t), p.server, request(t, 1))
	wantKind(t, "server", err, attest.ErrFormat)

	p = connected(t, func(r *rig) { r.client.Attester = nil })
	if client, server := p.round(p.broker(nil)); client != nil || server != nil {
		t.Errorf("client that never attests: %v, %v", client, server)
	}
	_, server := p.round(p.broker(func(c *atls.ServerConfig) { c.RequireClientEvidence = true }))
	wantKind(t, "server that has come to require it", server, attest.ErrMissing)

	p = connected(t, nil)
	judge := p.begun()
	wantKind(t, "client that has stopped", judge.Finish(testContext(t), answer(t, 1, nil)), attest.ErrMissing)
}

// request, challenge and answer are the messages as an attacker would write them.
func request(t testing.TB, seq uint64) []byte {
	return Must(dcbor.Encode([]any{1, seq, make([]byte, 32)}))(t)
}

func answer(t testing.TB, seq uint64, evidence []byte) []byte {
	return Must(dcbor.Encode([]any{3, seq, append([]byte{}, evidence...)}))(t)
}

// begun has the server begin round 1, with a nonce of zeros.
func (p *pair) begun() *atls.ServerRound {
	p.t.Helper()
	judge, _, err := p.broker(nil).Reattest(testContext(p.t), p.server, request(p.t, 1))
	if err != nil {
		p.t.Fatal(err)
	}
	return judge
}

// Requests out of order are replays, and what is no message is refused as such.
func TestReattestRequests(t *testing.T) {
	p := connected(t, nil)
	broker, ctx := p.broker(nil), testContext(t)
	for name, test := range map[string]struct {
		data []byte
		kind attest.Kind
	}{
		"round 0":       {request(t, 0), attest.ErrBinding},
		"round 2":       {request(t, 2), attest.ErrBinding},
		"last of all":   {request(t, 1<<64-1), attest.ErrBinding},
		"nothing":       {nil, attest.ErrFormat},
		"short nonce":   {Must(dcbor.Encode([]any{1, 1, make([]byte, 31)}))(t), attest.ErrFormat},
		"an answer":     {answer(t, 1, nil), attest.ErrFormat},
		"an answer's 3": {Must(dcbor.Encode([]any{3, 1, make([]byte, 32)}))(t), attest.ErrFormat},
		"too much":      {append(request(t, 1), 0), attest.ErrFormat},
		"huge":          {make([]byte, 65000), attest.ErrFormat},
	} {
		_, _, err := broker.Reattest(ctx, p.server, test.data)
		wantKind(t, name, err, test.kind)
	}
	if client, server := p.round(broker); client != nil || server != nil {
		t.Fatal(client, server)
	}
	_, _, err := broker.Reattest(ctx, p.server, request(t, 1))
	wantKind(t, "replayed request", err, attest.ErrBinding)
}

// roundClaims computes the claims of one round as the protocol says, with no code of package atls.
func roundClaims(t testing.TB, role, phase, seq uint64, nonceC [32]byte, nonceS []byte, key *ecdsa.PrivateKey, cs *tls.ConnectionState, id attest.Identity) *attest.Claims {
	t.Helper()
	ctx := sha256.Sum256(Must(dcbor.Encode([]any{1, role, phase, seq, nonceC[:], append([]byte{}, nonceS...)}))(t))
	ekm := Must(cs.ExportKeyingMaterial("EXPERIMENTAL-vouchmq-attest-v1", ctx[:], 32))(t)
	server := attest.Sum(Must(spki(key))(t))
	c := &attest.Claims{Identity: id}
	c.Nonce, c.Binder, c.Service = nonceC, [32]byte(ekm), service
	c.Role, c.Phase, c.Seq = attest.Role(role), attest.Phase(phase), seq
	c.Request = attest.Sum(Must(dcbor.Encode([]any{1, "n1", cs.NegotiatedProtocol, cs.Version, cs.CipherSuite}))(t))
	if c.OwnKey = &server; role == 2 {
		c.OwnKey, c.PeerKey = nil, &server
	}
	return c
}

// TestReattestBinding has a server give evidence that is genuine and made for something else. The control is evidence
// by the formula of the protocol, computed a second time.
func TestReattestBinding(t *testing.T) {
	other := connected(t, nil)
	for name, test := range map[string]struct {
		role, phase, seq uint64
		swap, foreign    bool // nonces swapped; of another connection
		kind             attest.Kind
	}{
		"control":             {role: 1, phase: 2, seq: 1},
		"role of the client":  {role: 2, phase: 2, seq: 1, kind: attest.ErrRole},
		"phase 1":             {role: 1, phase: 1, seq: 1, kind: attest.ErrBinding},
		"evidence of connect": {role: 1, phase: 1, seq: 0, kind: attest.ErrBinding},
		"round before":        {role: 1, phase: 2, seq: 0, kind: attest.ErrBinding},
		"round after":         {role: 1, phase: 2, seq: 2, kind: attest.ErrBinding},
		"swapped nonces":      {role: 1, phase: 2, seq: 1, swap: true, kind: attest.ErrBinding},
		"other connection":    {role: 1, phase: 2, seq: 1, foreign: true, kind: attest.ErrBinding},
	} {
		t.Run(name, func(t *testing.T) {
			p := connected(t, nil)
			round, sent, err := p.client.Reattest()
			if err != nil {
				t.Fatal(err)
			}
			nonceC := [32]byte(sent[len(sent)-32:])
			nonceS := make([]byte, 32)
			_, _ = rand.Read(nonceS)
			cs := p.server.ConnectionState()
			if test.foreign {
				cs = other.server.ConnectionState()
			}
			boundC, boundS := nonceC, nonceS
			if test.swap {
				boundC, boundS = [32]byte(nonceS), nonceC[:]
			}
			claims := roundClaims(t, test.role, test.phase, test.seq, boundC, boundS, p.leafKey, &cs, brokerIdentity)
			evidence := Must(attest.Make(context.Background(), p.config.Attester, attest.PurposeConnection, claims, rand.Reader))(t)
			_, err = round.Answer(testContext(t), Must(dcbor.Encode([]any{2, 1, nonceS, evidence}))(t))
			if test.kind == 0 && err != nil || test.kind != 0 && !errors.Is(err, test.kind) {
				t.Errorf("%v, want %v", err, test.kind)
			}
		})
	}
}

// TestReattestClientBinding does the same to the server.
func TestReattestClientBinding(t *testing.T) {
	for name, test := range map[string]struct {
		role, phase, seq uint64
		withoutNonceS    bool
		kind             attest.Kind
	}{
		"control":                  {role: 2, phase: 2, seq: 1},
		"the server's own role":    {role: 1, phase: 2, seq: 1, kind: attest.ErrRole},
		"evidence of connect":      {role: 2, phase: 1, seq: 0, kind: attest.ErrBinding},
		"other round":              {role: 2, phase: 2, seq: 2, kind: attest.ErrBinding},
		"without the server nonce": {role: 2, phase: 2, seq: 1, withoutNonceS: true, kind: attest.ErrBinding},
	} {
		t.Run(name, func(t *testing.T) {
			p := connected(t, nil)
			judge, challenge, err := p.broker(nil).Reattest(testContext(t), p.server, request(t, 1))
			if err != nil {
				t.Fatal(err)
			}
			var sent struct {
				_            struct{} `cbor:",toarray"`
				Kind, Seq    uint64
				Nonce, Quote []byte
			}
			if err := dcbor.Decode(challenge, &sent); err != nil {
				t.Fatal(err)
			}
			if test.withoutNonceS {
				sent.Nonce = nil
			}
			cs := p.client.ConnectionState()
			claims := roundClaims(t, test.role, test.phase, test.seq, [32]byte{}, sent.Nonce, p.leafKey, &cs, sensorIdentity)
			evidence := Must(attest.Make(context.Background(), p.rig.client.Attester, attest.PurposeConnection, claims, rand.Reader))(t)
			err = judge.Finish(testContext(t), answer(t, 1, evidence))
			if test.kind == 0 && err != nil || test.kind != 0 && !errors.Is(err, test.kind) {
				t.Errorf("%v, want %v", err, test.kind)
			}
			if test.kind == 0 {
				wantKind(t, "answer to another round", judge.Finish(testContext(t), answer(t, 2, evidence)), attest.ErrBinding)
			}
			// The server's own evidence, given back to it.
			if judge.Finish(testContext(t), answer(t, 1, sent.Quote)) == nil {
				t.Error("reflected evidence is accepted")
			}
		})
	}
}

// A connection stays or goes by another policy, and by the dates of what was verified.
func TestReappraise(t *testing.T) {
	expiry := time.Now().Add(time.Hour).Truncate(time.Second)
	p := connected(t, func(r *rig) {
		r.server.Attester = sim.NewAttester(r.tee, attest.Digest{1}).WithFaults(sim.Faults{Expiry: expiry})
	})
	same := appraiser(t, brokerPolicy(p.rig))
	if v := p.client.Reappraise(same, time.Now()); !v.Accepted || p.client.Peer().Verdict != v {
		t.Errorf("same policy: %v", v.Err)
	}
	renamed := brokerPolicy(p.rig)
	renamed.Name = "renamed"
	if v := p.client.Reappraise(appraiser(t, renamed), time.Now()); !v.Accepted || p.client.Peer().Identities[0] != "renamed" {
		t.Errorf("renamed: %v", v.Err)
	}
	if client, server := p.round(p.broker(nil)); client != nil || server != nil || p.client.Peer().Identities[0] != "renamed" {
		t.Errorf("the next round is not by the new policy: %v, %v", client, server)
	}
	wantKind(t, "expired", p.client.Reappraise(same, expiry).Err, attest.ErrFreshness)
	strict := brokerPolicy(p.rig)
	strict.Modules = []attest.Digest{{7}}
	wantKind(t, "other module", p.client.Reappraise(appraiser(t, strict), time.Now()).Err, attest.ErrModule)
	if p.client.Peer().Identities[0] != "renamed" {
		t.Error("a refusal has changed what the peer is")
	}
	plain := connected(t, func(r *rig) { r.client.Unattested, r.client.Attester = true, nil })
	wantKind(t, "no evidence", plain.client.Reappraise(same, time.Now()).Err, attest.ErrMissing)
}

// What a round has brought is not replaced by what was known before, however often that is judged meanwhile.
func TestReappraiseBesideRounds(t *testing.T) {
	p := connected(t, nil)
	same, broker := appraiser(t, brokerPolicy(p.rig)), p.broker(nil)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.client.Reappraise(same, time.Now())
				}
			}
		})
	}
	for range 30 {
		before := p.client.Peer().Verdict.Facts
		if client, server := p.round(broker); client != nil || server != nil {
			t.Fatal(client, server)
		}
		for range 30 {
			if p.client.Peer().Verdict.Facts == before {
				t.Fatal("older evidence has come back")
			}
		}
	}
}
