package server_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/servertest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const (
	every = 10 * time.Minute
	grace = time.Minute
)

// standRig is a broker whose clock is in the hands of the test.
type standRig struct {
	*rig
	t      testing.TB
	config server.Config
	offset atomic.Int64
	device *sim.Key
	expiry time.Time // of the device's pretended collateral
}

func (r *standRig) now() time.Time { return time.Now().Add(time.Duration(r.offset.Load())) }

func (r *standRig) advance(d time.Duration) {
	r.offset.Add(int64(d))
	r.LookNow()
}

// identities are those of clients: programs with the key of the device, which run one of the modules.
func (r *standRig) identities(name string, modules ...attest.Digest) []policy.Identity {
	return []policy.Identity{{
		Name: name, Modules: modules, Simulated: true,
		AnyOf: []policy.Requirement{{Platform: attest.Sim, Want: map[string][]string{"key": {r.device.Digest().String()}}}},
	}}
}

// policy lets everybody do everything; messages below in/ are stamped.
func (r *standRig) policy(identities []policy.Identity) *policy.Policy {
	r.t.Helper()
	var rules []policy.Rule
	all := []string{"#", "$SYS/#"}
	for _, id := range identities {
		rules = append(rules, policy.Rule{Who: []policy.Who{{Identity: id.Name}}, Publish: []string{"in/#"}, Subscribe: all, Provenance: true})
	}
	rules = append(rules, policy.Rule{Who: []policy.Who{{Listener: server.AttestedListener}, {Listener: server.PlainListener}}, Publish: all, Subscribe: all})
	p, err := policy.New(identities, rules)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func startStanding(t testing.TB, change func(*server.Config)) *standRig {
	t.Helper()
	r := &standRig{t: t, device: newDevice(t)}
	b := servertest.Start(t, server.DevelopmentOptions{}, func(c *server.Config, _ *server.State) {
		c.Clock, c.Attestation = r.now, server.Attestation{Reattest: every, Grace: grace}
		c.Policy = r.policy(r.identities("device", deviceModule))
		if change != nil {
			change(c)
		}
	})
	r.rig, r.config = rigOf(b), b.Config
	return r
}

// reload puts another policy in force.
func (r *standRig) reload(p *policy.Policy) {
	r.t.Helper()
	config := r.config
	config.Policy = p
	if err := r.Reload(context.Background(), config); err != nil {
		r.t.Fatal(err)
	}
}

// anyConfig is the bundle without the digest of the configuration.
func (r *standRig) anyConfig() *client.Bundle {
	b := r.readBundle(r.t)
	ids := b.Policy.Identities()
	for i := range ids {
		ids[i].Configs = nil
	}
	p, err := policy.New(ids, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	b.Policy = p
	return b
}

// dial connects, with evidence of the device if attests.
func (r *standRig) dial(b *client.Bundle, attests bool) *atls.Conn {
	r.t.Helper()
	var o client.Options
	if attests {
		faults := sim.Faults{Expiry: r.expiry}
		o.Attester, o.Identity = sim.NewAttester(r.device, deviceModule).WithFaults(faults), attest.Identity{Module: deviceModule}
	}
	conn, _, err := client.Dial(context.Background(), b, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

// raw is a client of MQTT 5 that says exactly what the test says.
type raw struct {
	t    testing.TB
	conn net.Conn
}

func (c *raw) send(p packets.Packet) {
	c.t.Helper()
	if _, err := p.WriteTo(c.conn); err != nil {
		c.t.Fatal(err)
	}
}

func (c *raw) receive() *packets.ControlPacket {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(Patience))
	p, err := packets.ReadPacket(c.conn)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// connect sends CONNECT and returns the properties of CONNACK, or its reason.
func (c *raw) connect(id, method string, data []byte) (*packets.Properties, byte) {
	c.t.Helper()
	c.send(&packets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: id, CleanStart: true, KeepAlive: 600,
		Properties: &packets.Properties{AuthMethod: method, AuthData: data},
	})
	ack, ok := c.receive().Content.(*packets.Connack)
	if !ok {
		c.t.Fatal("no CONNACK came")
	}
	return ack.Properties, ack.ReasonCode
}

func (c *raw) auth(reason byte, data []byte) {
	c.t.Helper()
	c.send(&packets.Auth{ReasonCode: reason, Properties: &packets.Properties{AuthMethod: atls.ReattestMethod, AuthData: data}})
}

// challenged receives an AUTH 0x18 and returns its data.
func (c *raw) challenged() []byte {
	c.t.Helper()
	auth, ok := c.receive().Content.(*packets.Auth)
	if !ok || auth.ReasonCode != 0x18 || auth.Properties.AuthMethod != atls.ReattestMethod {
		c.t.Fatalf("no challenge came, but %v", auth)
	}
	return auth.Properties.AuthData
}

// disconnected receives a DISCONNECT with a reason, and then the end.
func (c *raw) disconnected(reason byte) {
	c.t.Helper()
	p := c.receive()
	d, ok := p.Content.(*packets.Disconnect)
	if !ok || d.ReasonCode != reason {
		c.t.Fatalf("DISCONNECT 0x%02x was to come, not %v", reason, p.Content)
	}
	if _, err := io.ReadAll(c.conn); err != nil {
		c.t.Error(err)
	}
}

func userProperty(p *packets.Properties, name string) string {
	for _, u := range p.User {
		if u.Key == name {
			return u.Value
		}
	}
	return ""
}

// saw waits until the log says all of the words in one line.
func (r *standRig) saw(words ...string) {
	r.t.Helper()
	Await(r.t, "the log to say "+strings.Join(words, ", "), func() bool {
		for line := range strings.Lines(r.log.String()) {
			all := true
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return true
			}
		}
		return false
	})
}

// round runs one round of AUTH and returns how long until the next.
func (c *raw) round(re *client.Reattester) time.Duration {
	c.t.Helper()
	data, err := re.Begin()
	if err != nil {
		c.t.Fatal(err)
	}
	c.auth(0x19, data)
	answer, err := re.Answer(context.Background(), c.challenged())
	if err != nil {
		c.t.Fatal(err)
	}
	c.auth(0x18, answer)
	auth, ok := c.receive().Content.(*packets.Auth)
	if !ok || auth.ReasonCode != 0 {
		c.t.Fatalf("the round did not end well: %v", auth)
	}
	return seconds(c.t, auth.Properties)
}

func seconds(t testing.TB, p *packets.Properties) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(userProperty(p, client.ReattestProperty) + "s")
	if err != nil {
		t.Fatalf("no time for the next round: %v", err)
	}
	return d
}

// A client that keeps to its time stays, for ever; one that does not is disconnected; the time is told.
func TestReattestation(t *testing.T) {
	r := startStanding(t, nil)
	conn := r.dial(r.readBundle(r.t), true)
	c := &raw{t, conn}
	props, reason := c.connect("diligent", client.ReattestMethod, nil)
	if reason != 0 || props.AuthMethod != client.ReattestMethod {
		t.Fatalf("CONNACK 0x%02x", reason)
	}
	re, next := client.NewReattester(conn), seconds(t, props)
	for range 3 {
		if next < every*8/10-time.Second || next > every*12/10 {
			t.Errorf("next round after %v", next)
		}
		r.advance(next)
		next = c.round(re)
	}
	works(t, r.rig, "plain")

	idle := &raw{t, r.dial(r.readBundle(r.t), true)}
	props, _ = idle.connect("idle", client.ReattestMethod, nil)
	left := seconds(t, props) + grace
	for _, part := range []time.Duration{left / 2, left - left/2 - 20*time.Second} { // less what this takes
		r.advance(part)
		c.round(re)
	}
	idle.send(&packets.Pingreq{})
	if idle.receive().Type != packets.PINGRESP {
		t.Error("it was not let be until its time was over")
	}
	r.advance(25 * time.Second)
	idle.disconnected(0x87)
	r.saw("would not be let in any more", "re-attestation is overdue")
	c.round(re)
}

// Who is to attest again: whoever has attested, or has named the method; nobody else, and nobody where it is turned off.
func TestWhoMustReattest(t *testing.T) {
	r := startStanding(t, nil)
	named := &raw{t, r.dial(r.readBundle(r.t), false)}
	if props, _ := named.connect("named", client.ReattestMethod, nil); seconds(t, props) == 0 {
		t.Error("no time was told")
	}
	attested := &raw{t, r.dial(r.readBundle(r.t), true)}
	attested.connect("attested", "", nil)
	old := r.dial(r.readBundle(r.t), true)
	hello(t, old, "x") // MQTT 3.1.1
	free := &raw{t, r.dial(r.readBundle(r.t), false)}
	free.connect("free", "", nil)
	r.advance(every*12/10 + grace + time.Second)
	named.disconnected(0x87)
	attested.disconnected(0x87)
	end(t, old)
	free.send(&packets.Pingreq{})
	if free.receive().Type != packets.PINGRESP {
		t.Error("a client that nothing was demanded of is gone")
	}

	r = startStanding(t, func(c *server.Config) { c.Attestation = server.Attestation{} })
	conn := r.dial(r.readBundle(r.t), true)
	c := &raw{t, conn}
	if props, reason := c.connect("x", client.ReattestMethod, nil); reason != 0 || len(props.User) != 0 {
		t.Errorf("CONNACK 0x%02x, %v", reason, props.User)
	}
	r.advance(24 * time.Hour)
	c.send(&packets.Pingreq{})
	if c.receive().Type != packets.PINGRESP {
		t.Error("it is gone")
	}
	data, err := client.NewReattester(conn).Begin() // who wants to may
	if err != nil {
		t.Fatal(err)
	}
	c.auth(0x19, data)
	c.challenged()
}

// evidence makes evidence of the device by the formula of the protocol, for any moment and module.
func (r *standRig) evidence(conn *atls.Conn, phase attest.Phase, seq uint64, nonceC [32]byte, nonceS []byte, module attest.Digest) []byte {
	r.t.Helper()
	cs := conn.ConnectionState()
	exporter, err := attest.ExporterContext(attest.RoleClient, phase, seq, nonceC, nonceS)
	if err != nil {
		r.t.Fatal(err)
	}
	binder, err := cs.ExportKeyingMaterial(attest.ExporterLabel, exporter, attest.BinderSize)
	if err != nil {
		r.t.Fatal(err)
	}
	key := attest.Sum(cs.PeerCertificates[0].RawSubjectPublicKeyInfo)
	claims := &attest.Claims{Identity: attest.Identity{Module: module}}
	claims.Nonce, claims.Binder = nonceC, [attest.BinderSize]byte(binder)
	claims.Role, claims.Phase, claims.Seq, claims.PeerKey, claims.Service = attest.RoleClient, phase, seq, &key, server.DevelopmentService
	claims.Request = attest.Sum(encoded(1, "n1", cs.NegotiatedProtocol, cs.Version, cs.CipherSuite))
	evidence, err := attest.Make(context.Background(), sim.NewAttester(r.device, module), attest.PurposeConnection, claims, rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	return evidence
}

// A client that comes to run another module must connect again, even if the policy accepts both as the same identity: the core,
// and those whom it tells of the client, know the first.
func TestReattestationAsSomebodyElse(t *testing.T) {
	second := attest.Sum([]byte("second module"))
	r := startStanding(t, nil)
	r.reload(r.policy(r.identities("device", deviceModule, second)))
	for module, same := range map[attest.Digest]bool{deviceModule: true, second: false, {3}: false} {
		conn := r.dial(r.readBundle(r.t), true)
		c := &raw{t, conn}
		c.connect("changeling", client.ReattestMethod, nil)
		data, err := client.NewReattester(conn).Begin()
		if err != nil {
			t.Fatal(err)
		}
		c.auth(0x19, data)
		var sent struct {
			_               struct{} `cbor:",toarray"`
			Kind, Seq       uint64
			Nonce, Evidence []byte
		}
		if err := dcbor.Decode(c.challenged(), &sent); err != nil {
			t.Fatal(err)
		}
		c.auth(0x18, encoded(3, 1, r.evidence(conn, attest.PhaseReattest, 1, [32]byte(data[len(data)-32:]), sent.Nonce, module)))
		switch {
		case same:
			if auth, ok := c.receive().Content.(*packets.Auth); !ok || auth.ReasonCode != 0 {
				t.Error("the control has failed")
			}
		case module == second:
			c.disconnected(0x98)
			r.saw("re-attestation refused", "somebody else")
		default:
			c.disconnected(0x87)
		}
	}
}

// attack is what somebody does on a connection that has announced the method.
type attack struct {
	do     func(t testing.TB, r *standRig, c *raw, re *client.Reattester)
	reason byte
	log    string
}

// answerWith goes through a round up to the client's answer, which is the attacker's.
func answerWith(make func(challenge []byte) []byte) func(testing.TB, *standRig, *raw, *client.Reattester) {
	return func(t testing.TB, _ *standRig, c *raw, re *client.Reattester) {
		data, err := re.Begin()
		if err != nil {
			t.Fatal(err)
		}
		c.auth(0x19, data)
		c.auth(0x18, make(c.challenged()))
	}
}

// evidenceOf takes the evidence out of a challenge.
func evidenceOf(challenge []byte) []byte {
	var w struct {
		_               struct{} `cbor:",toarray"`
		Kind, Seq       uint64
		Nonce, Evidence []byte
	}
	_ = dcbor.Decode(challenge, &w)
	return w.Evidence
}

func encoded(list ...any) []byte {
	b, _ := dcbor.Encode(list)
	return b
}

var attacks = map[string]attack{
	"round 0": {func(_ testing.TB, _ *standRig, c *raw, _ *client.Reattester) {
		c.auth(0x19, encoded(1, 0, make([]byte, 32)))
	}, 0x87, attest.ErrBinding.Error()},
	"a round ahead": {func(_ testing.TB, _ *standRig, c *raw, _ *client.Reattester) {
		c.auth(0x19, encoded(1, 2, make([]byte, 32)))
	}, 0x87, attest.ErrBinding.Error()},
	"stale request": {func(t testing.TB, _ *standRig, c *raw, re *client.Reattester) {
		c.round(re)
		c.auth(0x19, encoded(1, 1, make([]byte, 32)))
	}, 0x87, attest.ErrBinding.Error()},
	"garbage":       {func(_ testing.TB, _ *standRig, c *raw, _ *client.Reattester) { c.auth(0x19, []byte("hello")) }, 0x82, attest.ErrFormat.Error()},
	"nothing":       {func(_ testing.TB, _ *standRig, c *raw, _ *client.Reattester) { c.auth(0x19, nil) }, 0x82, attest.ErrFormat.Error()},
	"out of turn":   {func(_ testing.TB, _ *standRig, c *raw, _ *client.Reattester) { c.auth(0x18, nil) }, 0x82, "AUTH out of turn"},
	"server's word": {func(_ testing.TB, _ *standRig, c *raw, _ *client.Reattester) { c.auth(0x00, nil) }, 0x82, "belongs to the other side"},
	"another method": {func(_ testing.TB, _ *standRig, c *raw, _ *client.Reattester) {
		c.send(&packets.Auth{ReasonCode: 0x19, Properties: &packets.Properties{AuthMethod: "SCRAM-SHA-256"}})
	}, 0x82, "another authentication method"},
	"empty evidence":          {answerWith(func([]byte) []byte { return encoded(3, 1, []byte{}) }), 0x87, attest.ErrMissing.Error()},
	"no answer":               {answerWith(func([]byte) []byte { return nil }), 0x82, attest.ErrFormat.Error()},
	"garbage as answer":       {answerWith(func([]byte) []byte { return encoded(3, 1, []byte("garbage")) }), 0x87, attest.ErrFormat.Error()},
	"answer to another round": {answerWith(func([]byte) []byte { return encoded(3, 2, []byte("x")) }), 0x87, attest.ErrBinding.Error()},
	"reflection":              {answerWith(func(challenge []byte) []byte { return encoded(3, 1, evidenceOf(challenge)) }), 0x87, attest.ErrRole.Error()},
	"replayed answer": {func(t testing.TB, _ *standRig, c *raw, re *client.Reattester) {
		data, _ := re.Begin()
		c.auth(0x19, data)
		answer, err := re.Answer(context.Background(), c.challenged())
		if err != nil {
			t.Fatal(err)
		}
		c.auth(0x18, answer)
		c.receive()
		var sent struct {
			_         struct{} `cbor:",toarray"`
			Kind, Seq uint64
			Evidence  []byte
		}
		if err := dcbor.Decode(answer, &sent); err != nil {
			t.Fatal(err)
		}
		if data, err = re.Begin(); err != nil {
			t.Fatal(err)
		}
		c.auth(0x19, data)
		c.challenged()
		c.auth(0x18, encoded(3, 2, sent.Evidence))
	}, 0x87, attest.ErrBinding.Error()},
	"evidence of connect": {func(t testing.TB, r *standRig, c *raw, re *client.Reattester) {
		data, _ := re.Begin()
		c.auth(0x19, data)
		c.challenged()
		// What the client would have sent at connect, made with the right key for this very connection.
		evidence := r.evidence(c.conn.(*atls.Conn), attest.PhaseConnect, 0, [32]byte(data[len(data)-32:]), nil, deviceModule)
		c.auth(0x18, encoded(3, 1, evidence))
	}, 0x87, attest.ErrBinding.Error()},
}

// Each of these ends the connection, with the reason code that the standard has for it, and the reason in the log. Nobody
// else notices.
func TestReattestationAttacks(t *testing.T) {
	r := startStanding(t, nil)
	bundle := r.readBundle(r.t)
	witness := &raw{t, r.dial(bundle, true)}
	witness.connect("witness", client.ReattestMethod, nil)
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			conn := r.dial(bundle, true)
			c := &raw{t, conn}
			c.connect("attacker", client.ReattestMethod, nil)
			before := len(r.log.String())
			a.do(t, r, c, client.NewReattester(conn))
			c.disconnected(a.reason)
			Await(t, a.log+" in the log", func() bool { return strings.Contains(r.log.String()[before:], a.log) })
		})
	}
	witness.send(&packets.Pingreq{})
	if witness.receive().Type != packets.PINGRESP {
		t.Error("the witness is gone")
	}
}

// Where there is nothing to attest again the method is refused at CONNECT, and without it there is no AUTH.
func TestReattestationWhereItIsNot(t *testing.T) {
	r := startStanding(t, nil)
	plain, err := net.Dial("tcp", r.Addr(server.PlainListener).String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	unattested, _, err := client.Dial(context.Background(), r.readBundle(r.t), client.Options{Unattested: true})
	if err != nil {
		t.Fatal(err)
	}
	defer unattested.Close()
	if client.NewReattester(unattested) != nil {
		t.Error("an unattested connection has a Reattester")
	}
	for name, conn := range map[string]net.Conn{"plain": plain, "unattested": unattested} {
		c := &raw{t, conn}
		if _, reason := c.connect(name, client.ReattestMethod, nil); reason != 0x8C {
			t.Errorf("%s: CONNACK 0x%02x, want 0x8c", name, reason)
		}
	}
	c := &raw{t, r.dial(r.readBundle(r.t), true)}
	if _, reason := c.connect("x", client.ReattestMethod, []byte("early")); reason != 0x82 {
		t.Errorf("data in CONNECT: CONNACK 0x%02x, want 0x82", reason)
	}
	c = &raw{t, r.dial(r.readBundle(r.t), true)}
	if _, reason := c.connect("x", "OTHER", nil); reason != 0x8C {
		t.Errorf("other method: CONNACK 0x%02x, want 0x8c", reason)
	}
	c = &raw{t, r.dial(r.readBundle(r.t), true)}
	c.connect("x", "", nil)
	c.auth(0x19, encoded(1, 1, make([]byte, 32)))
	c.disconnected(0x82)
	r.saw("AUTH without an authentication method in CONNECT")
}

// After a reload that changes what the broker attests its clients see the new evidence within the grace time, or are
// disconnected. A client that pins the old configuration finds out, and goes.
func TestReloadReattests(t *testing.T) {
	r := startStanding(t, nil)
	lenient, strict := r.anyConfig(), r.readBundle(r.t)
	staying := r.dial(lenient, true)
	going := r.dial(strict, false)
	idle := &raw{t, r.dial(lenient, false)}
	old := r.dial(lenient, false)
	hello(t, old, "old")
	a, b := &raw{t, staying}, &raw{t, going}
	a.connect("staying", client.ReattestMethod, nil)
	b.connect("going", client.ReattestMethod, nil)
	idle.connect("idle", "", nil)
	told := new(stamped)
	listener := paho(t, dial["plain"](t, r.rig), &paho5.Connect{ClientID: "told", CleanStart: true, KeepAlive: 30}, told)
	if _, err := listener.Subscribe(context.Background(), &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: client.ConfigTopic, QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	r.reload(r.policy(append(r.identities("device", deviceModule), r.identities("other", attest.Digest{9})...)))
	told.await(t, client.ConfigTopic+"="+r.Identity().Config.String()+" ")
	ra, rb := client.NewReattester(staying), client.NewReattester(going)
	a.round(ra)
	if staying.Peer().Verdict.Facts.Config != r.Identity().Config {
		t.Error("the new evidence is of the old configuration")
	}
	data, err := rb.Begin()
	if err != nil {
		t.Fatal(err)
	}
	b.auth(0x19, data)
	if _, err := rb.Answer(context.Background(), b.challenged()); !errors.Is(err, attest.ErrConfig) {
		t.Errorf("client that pins the configuration: %v", err)
	}
	r.advance(grace + time.Second)
	idle.disconnected(0x87)
	end(t, old)
	a.round(ra)
	works(t, r.rig, "plain")
}

// A reload in the middle of a round: the evidence of that round is of the old configuration, and does not count.
func TestReloadDuringARound(t *testing.T) {
	r := startStanding(t, nil)
	conn := r.dial(r.anyConfig(), true)
	c, re := &raw{t, conn}, client.NewReattester(conn)
	c.connect("caught", client.ReattestMethod, nil)
	data, err := re.Begin()
	if err != nil {
		t.Fatal(err)
	}
	c.auth(0x19, data)
	answer, err := re.Answer(context.Background(), c.challenged())
	if err != nil {
		t.Fatal(err)
	}
	r.reload(r.policy(append(r.identities("device", deviceModule), r.identities("other", attest.Digest{9})...)))
	c.auth(0x18, answer)
	if auth, ok := c.receive().Content.(*packets.Auth); !ok || auth.ReasonCode != 0 {
		t.Fatal("the round did not end well")
	}
	r.advance(grace + time.Second)
	c.disconnected(0x87)
}

// A change of the policy, and the end of collateral, find those whom they concern, and only those.
func TestReappraisalOfConnections(t *testing.T) {
	r := startStanding(t, func(c *server.Config) { c.Attestation.Grace = time.Hour })
	other := &raw{t, r.dial(r.anyConfig(), false)}
	other.connect("other", client.ReattestMethod, nil)
	first := &raw{t, r.dial(r.anyConfig(), true)}
	first.connect("first", client.ReattestMethod, nil)
	old := r.dial(r.anyConfig(), true)
	hello(t, old, "old")
	r.reload(r.policy(r.identities("device", attest.Digest{7})))
	first.disconnected(0x87)
	end(t, old)
	r.saw("would not be let in any more", "module")

	r.reload(r.policy(r.identities("device", deviceModule)))
	r.expiry = r.now().Add(3 * time.Minute).Truncate(time.Second)
	second := &raw{t, r.dial(r.anyConfig(), true)}
	second.connect("second", client.ReattestMethod, nil)
	r.advance(2 * time.Minute)
	second.send(&packets.Pingreq{})
	if second.receive().Type != packets.PINGRESP {
		t.Error("it is gone before its time")
	}
	r.advance(2 * time.Minute)
	second.disconnected(0x87)
	r.saw("would not be let in any more", "expired")

	r.expiry = time.Time{}
	third := &raw{t, r.dial(r.anyConfig(), true)}
	third.connect("third", client.ReattestMethod, nil)
	r.reload(r.policy(r.identities("renamed", deviceModule)))
	third.disconnected(0x98)
	other.send(&packets.Pingreq{})
	if other.receive().Type != packets.PINGRESP {
		t.Error("a client that nothing of this concerns is gone")
	}
}

// A client whose evidence expires before its next round would be due is asked for one in time, again and again, and stays.
func TestReattestationBeforeEvidenceExpires(t *testing.T) {
	const life = 4 * time.Minute // of evidence; every is longer
	r := startStanding(t, nil)
	dial := func() *atls.Conn {
		r.expiry = r.now().Add(life).Truncate(time.Second)
		return r.dial(r.anyConfig(), true)
	}
	conn := dial()
	c, re := &raw{t, conn}, client.NewReattester(conn)
	props, _ := c.connect("short-lived", client.ReattestMethod, nil)
	next, left := seconds(t, props), life
	for range 4 { // its evidence says the same each time: what it comes from is not renewed
		if next >= left || next < left/2-2*time.Second || left > 2*grace && next > left-grace {
			t.Errorf("%v before its evidence expires it is to begin the next round in %v", left, next)
		}
		r.advance(next)
		left -= next
		next = c.round(re)
	}

	c = &raw{t, dial()}
	props, _ = c.connect("late", client.ReattestMethod, nil)
	r.advance(seconds(t, props))
	c.send(&packets.Pingreq{})
	if c.receive().Type != packets.PINGRESP {
		t.Error("it is gone before its evidence has expired")
	}
	r.advance(life)
	c.disconnected(0x87)

	r.config.Attestation.Reattest = 0
	r.reload(r.config.Policy)
	c = &raw{t, dial()}
	if props, _ := c.connect("undisturbed", client.ReattestMethod, nil); len(props.User) != 0 {
		t.Errorf("a round is demanded where there are none: %v", props.User)
	}
}

// Paho's library keeps a connection attested, and other packets flow meanwhile.
func TestReattestationWithPaho(t *testing.T) {
	r := startStanding(t, func(c *server.Config) { c.Attestation.Reattest = time.Second })
	conn := r.dial(r.readBundle(r.t), true)
	keeper := &pahoKeeper{re: client.NewReattester(conn), rounds: make(chan struct{}, 100)}
	in := new(inbox)
	c := paho5.NewClient(paho5.ClientConfig{
		ClientID: "paho", Conn: packets.NewThreadSafeConn(conn), AuthHandler: keeper,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(p paho5.PublishReceived) (bool, error) {
			in.add(p.Packet.Topic, p.Packet.Payload, p.Packet.QoS, p.Packet.Retain)
			return true, nil
		}},
	})
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	ack, err := c.Connect(ctx, &paho5.Connect{
		ClientID: "paho", CleanStart: true, KeepAlive: 30, Properties: &paho5.ConnectProperties{AuthMethod: client.ReattestMethod},
	})
	if err != nil {
		t.Fatal(err)
	}
	kept := make(chan error, 1)
	go func() {
		kept <- keeper.re.Keep(ctx, ack.Properties.User.Get(client.ReattestProperty), func(ctx context.Context, data []byte) (string, error) {
			return keeper.round(ctx, c, data)
		})
	}()
	if _, err := c.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: "t", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if _, err := c.Publish(ctx, &paho5.Publish{Topic: "t", QoS: 1, Payload: []byte{byte('0' + i)}}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-keeper.rounds:
		case err := <-kept:
			t.Fatal(err)
		}
	}
	Await(t, "the messages", func() bool { return in.has("t=1 q1 rfalse") })
	cancel()
	if err := <-kept; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_ = c.Disconnect(&paho5.Disconnect{})
}

// pahoKeeper is what Paho's library asks when AUTH comes.
type pahoKeeper struct {
	re     *client.Reattester
	rounds chan struct{}
}

func (k *pahoKeeper) Authenticated() {}

func (k *pahoKeeper) Authenticate(a *paho5.Auth) *paho5.Auth {
	answer, _ := k.re.Answer(context.Background(), a.Properties.AuthData) // after an error the connection is closed
	return &paho5.Auth{ReasonCode: 0x18, Properties: &paho5.AuthProperties{AuthMethod: client.ReattestMethod, AuthData: answer}}
}

func (k *pahoKeeper) round(ctx context.Context, c *paho5.Client, data []byte) (string, error) {
	done, err := c.Authenticate(ctx, &paho5.Auth{
		ReasonCode: 0x19, Properties: &paho5.AuthProperties{AuthMethod: client.ReattestMethod, AuthData: data},
	})
	if err != nil {
		return "", err
	}
	k.rounds <- struct{}{}
	return done.Properties.User.Get(client.ReattestProperty), nil
}
