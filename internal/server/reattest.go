package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// ReattestProperty is the user property of CONNACK, and of the AUTH that ends a round, that tells a client within how
// many seconds it must begin the next round of re-attestation.
const ReattestProperty = abi.ProvenancePrefix + "reattest-seconds"

// ConfigTopic is where a broker says that its evidence claims another configuration from now on: the digest of that, at QoS 1, not
// retained. A server of MQTT cannot ask a client to authenticate anew; a client that subscribes here knows when to.
const ConfigTopic = "$SYS/broker/attestation/config"

// reattestJitter is how much the time between two rounds varies, so that those who came together do not stay together.
const reattestJitter = 0.2

// roundsApart is the least time between the beginnings of two rounds of a connection: each costs a quote.
const roundsApart = 250 * time.Millisecond

// refusedRound is what a client is told whose round fails; why is in the log alone.
const refusedRound = "re-attestation has failed"

// standing is a connection on which the client has asked for evidence at connect, and may have given its own: it is judged
// again when the policy changes or something expires, and both sides attest again by enhanced authentication. The core carries the
// messages; nothing of the judgement is left to it. It is the login of its connection.
type standing struct {
	gate     *gate
	conn     *atls.Conn
	client   transport.Client
	listener transport.Login // who else must be asked at CONNECT; nil is nobody
	platform attest.Platform // as the core was told
	module   attest.Digest
	shown    string // user that its certificate names, "" if it has shown none

	begun time.Time         // when the last round began, in real time; Step alone uses it
	round *atls.ServerRound // that waits for the client's answer; Step alone uses it
	offer attest.Digest     // configuration that its evidence claims

	mu      sync.Mutex
	user    string        // that the core knows
	named   bool          // the client has named the method
	claimed attest.Digest // configuration that the broker's latest evidence claims
	next    time.Duration // until the client must begin a round, as it was told
	due     time.Time     // when the next round must be over; zero: never
	closed  bool

	place int // in the heap of the watch, see watch.go
	at    time.Time
}

// announceConfig tells clients that want to know that the broker has come to attest another configuration.
func (s *Server) announceConfig(before attest.Identity, config *Config, c *change) {
	if before.Config == c.identity.Config || config.Attestation.Reattest == 0 {
		return
	}
	s.engine.PostNow(abi.EventPublish, 0, 0, 0, abi.AppendPublication(nil, &abi.Publication{
		Topic: ConfigTopic, Payload: []byte(c.identity.Config.String()), QoS: 1,
	}))
}

// stand makes a secured connection one that stands by evidence.
func (g *gate) stand(t *terms, conn *atls.Conn, secured transport.Secured) transport.Secured {
	x := &standing{gate: g, conn: conn, claimed: t.config, shown: secured.User, place: -1}
	if peer := conn.Peer(); peer.Attested {
		x.platform, x.module = peer.Verdict.Facts.Platform, peer.Verdict.Facts.Module
		secured.Platform, secured.Module = string(x.platform), x.module.String()
	}
	secured.Recheck, secured.Login = x.recheck, x.attach
	return secured
}

// attach makes x the login of its connection. Time runs for a client that has attested; for others once they name
// the method.
func (x *standing) attach(client transport.Client, listener transport.Login) transport.Login {
	x.client, x.listener, x.user = client, listener, client.User
	t := x.gate.now.Load()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next = x.draw(t)
	if x.conn.Peer().Attested {
		x.demand(t)
	}
	x.arm()
	return x
}

// draw returns the time until the next round, which is to be over before the client's evidence expires: whole seconds, since the client is
// told so, and 0 where none is demanded.
func (x *standing) draw(t *terms) time.Duration {
	d := t.attestation.draw()
	expiry := x.expiry()
	if d == 0 || expiry.IsZero() {
		return d
	}
	return inSeconds(min(d, t.attestation.before(expiry.Sub(t.clock()))))
}

// draw returns the time until a round that nothing hurries.
func (a *Attestation) draw() time.Duration {
	if a.Reattest == 0 {
		return 0
	}
	return inSeconds(time.Duration(float64(a.Reattest) * (1 + reattestJitter*(2*rand.Float64()-1))))
}

// before returns when, of the time that is left to something, a round begins that is to be over in time: one to two graces before the end,
// since what expires is mostly the same for many clients, or at the half if it is near.
func (a *Attestation) before(left time.Duration) time.Duration {
	return max(left-time.Duration(float64(a.Grace)*(1+rand.Float64())), left/2)
}

// inSeconds cuts off fractions; the least is one second.
func inSeconds(d time.Duration) time.Duration { return max(d.Truncate(time.Second), time.Second) }

// expiry is when the client's latest evidence, or what it was verified with, expires; the zero time is never.
func (x *standing) expiry() (at time.Time) {
	if v := x.conn.Peer().Verdict; v != nil && v.Facts != nil {
		at = v.Facts.Expiry
	}
	return at
}

// demand sets when the next round must be over. x.mu is held.
func (x *standing) demand(t *terms) {
	if x.due = (time.Time{}); x.next > 0 {
		x.due = t.clock().Add(x.next + t.attestation.Grace)
	}
}

// arm has the watch look at x when something is due next. x.mu is held.
func (x *standing) arm() {
	at := x.due
	if expiry := x.expiry(); !expiry.IsZero() && (at.IsZero() || expiry.Before(at)) {
		at = expiry
	}
	if !x.closed {
		x.gate.watch.set(x, at)
	}
}

// Close ends the watch over a connection that has ended.
func (x *standing) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	x.gate.watch.remove(x)
	return nil
}

// recheck judges the connection anew by what is in force and by the clock. It is the Recheck of transport.Secured.
func (x *standing) recheck() (uint32, error) {
	t := x.gate.now.Load()
	reason, why := x.judge(t)
	x.mu.Lock()
	defer x.mu.Unlock()
	if reason == 0 {
		reason, why = x.inTime(t)
	}
	if reason != 0 {
		x.gate.watch.remove(x) // it is over
		return reason, why
	}
	x.arm()
	return 0, nil
}

// inTime says whether there still is time for the next round. x.mu is held.
func (x *standing) inTime(t *terms) (uint32, error) {
	x.limit(t)
	if !x.due.IsZero() && !t.clock().Before(x.due) {
		return reasonNotAuthorized, attest.Errorf(attest.ErrFreshness, "re-attestation is overdue")
	}
	return 0, nil
}

// errWithoutEvidence is about what a connection needs besides evidence that holds.
var errWithoutEvidence = errors.New("the listener has come to require evidence or a certificate that the client has not shown")

// judge judges what the client's evidence said. Who has come to be somebody else must connect again, since the core
// knows who it is from the beginning of the connection.
func (x *standing) judge(t *terms) (uint32, error) {
	peer := x.conn.Peer()
	if reason := t.recheck(peer, x.shown); reason != 0 || !peer.Attested {
		return reason, errWithoutEvidence
	}
	verdict := t.policy.Reappraise(peer.Verdict.Facts, t.clock())
	if !verdict.Accepted {
		return reasonNotAuthorized, verdict.Err
	}
	if f := verdict.Facts; !slices.Equal(verdict.Identities, x.client.Identities) || f.Platform != x.platform || f.Module != x.module {
		return reasonAdministrative, fmt.Errorf("the client has come to be somebody else (identities %q, were %q): it must connect again", verdict.Identities, x.client.Identities)
	}
	return 0, nil
}

// limit shortens the time until the next round where the broker's evidence claims a configuration that is not in
// force any more: the client, which has accepted that one, must see the new one or go. Not all go at once. x.mu is held.
func (x *standing) limit(t *terms) {
	if t.attestation.Reattest == 0 {
		x.due = time.Time{}
		return
	}
	if x.claimed == t.config {
		return
	}
	x.claimed = t.config // the time does not begin anew with every look
	latest := t.clock().Add(t.attestation.Grace - time.Duration(rand.Int64N(int64(t.attestation.Grace)/2+1)))
	if x.due.IsZero() || latest.Before(x.due) {
		x.due = latest
	}
}

// Step implements transport.Login.
func (x *standing) Step(ctx context.Context, r *abi.AuthRequest) (mqtt.ReasonCode, abi.AuthAnswer) {
	switch {
	case r.Method != atls.ReattestMethod:
		return x.pass(ctx, r)
	case r.Stage == abi.AuthConnect:
		return x.connect(ctx, r)
	case r.Stage == abi.AuthReconnect:
		return x.begin(ctx, r)
	}
	return x.finish(ctx, r)
}

// pass leaves a step to the login of the listener.
func (x *standing) pass(ctx context.Context, r *abi.AuthRequest) (mqtt.ReasonCode, abi.AuthAnswer) {
	if x.listener == nil {
		return mqtt.BadAuthenticationMethod, abi.AuthAnswer{Reason: "the authentication method is not known here"}
	}
	return x.listener.Step(ctx, r)
}

// connect lets in a client that will attest again. It has attested, or not, before MQTT began; a user name and a password
// are judged as always.
func (x *standing) connect(ctx context.Context, r *abi.AuthRequest) (mqtt.ReasonCode, abi.AuthAnswer) {
	if len(r.Data) > 0 {
		return mqtt.ProtocolError, abi.AuthAnswer{Reason: "CONNECT brings data for a method that has none there"}
	}
	answer := abi.AuthAnswer{User: x.client.User}
	if x.listener != nil {
		login := *r
		login.Method = ""
		var reason mqtt.ReasonCode
		if reason, answer = x.listener.Step(ctx, &login); reason != mqtt.Success {
			return reason, answer
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.user, x.named = answer.User, true
	if x.due.IsZero() {
		x.demand(x.gate.now.Load())
	}
	x.arm()
	answer.Properties = x.announcement()
	return mqtt.Success, answer
}

// announcement tells the client when to begin the next round. x.mu is held.
func (x *standing) announcement() []string {
	if x.next == 0 {
		return nil
	}
	return []string{ReattestProperty, strconv.Itoa(int(x.next / time.Second))}
}

// begin answers the request of a round with the broker's evidence.
func (x *standing) begin(ctx context.Context, r *abi.AuthRequest) (mqtt.ReasonCode, abi.AuthAnswer) {
	x.round = nil
	if err := x.takeTurn(ctx); err != nil {
		return mqtt.UnspecifiedError, abi.AuthAnswer{} // the connection has ended
	}
	t := x.gate.now.Load()
	round, challenge, err := t.tls.Reattest(ctx, x.conn, r.Data)
	if err != nil {
		return x.refuse(err)
	}
	x.round, x.offer = round, t.config
	return mqtt.ContinueAuthentication, abi.AuthAnswer{Data: challenge}
}

// takeTurn keeps rounds apart.
func (x *standing) takeTurn(ctx context.Context) error {
	apart := time.NewTimer(time.Until(x.begun.Add(roundsApart)))
	defer apart.Stop()
	select {
	case <-apart.C:
		x.begun = time.Now()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finish judges the client's answer.
func (x *standing) finish(ctx context.Context, r *abi.AuthRequest) (mqtt.ReasonCode, abi.AuthAnswer) {
	round := x.round
	x.round = nil
	if round == nil {
		return x.refuse(attest.Errorf(attest.ErrFormat, "the client answers in a round that it has not begun"))
	}
	if err := round.Finish(ctx, r.Data); err != nil {
		return x.refuse(err)
	}
	x.renew()
	if reason, why := x.recheck(); reason != 0 {
		x.logRefusal(why)
		return mqtt.ReasonCode(reason), abi.AuthAnswer{Reason: refusedRound}
	}
	x.client.Log.Debug("client and broker have attested again", "identities", x.client.Identities)
	x.mu.Lock()
	defer x.mu.Unlock()
	return mqtt.Success, abi.AuthAnswer{User: x.user, Properties: x.announcement()}
}

// renew begins the time until the next round.
func (x *standing) renew() {
	t := x.gate.now.Load()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.claimed, x.next = x.offer, x.draw(t)
	x.demand(t)
}

// refuse ends a round, and with it the connection [MQTT-4.12.1-2].
func (x *standing) refuse(err error) (mqtt.ReasonCode, abi.AuthAnswer) {
	x.logRefusal(err)
	return reasonOf(err), abi.AuthAnswer{Reason: refusedRound}
}

func (x *standing) logRefusal(err error) {
	kind := "another identity"
	if k := policy.KindOf(err); k != 0 {
		kind = k.Error()
	}
	x.client.Log.Warn("re-attestation refused", "kind", kind, "error", err)
}

// reasonOf returns the reason code for a round that failed.
func reasonOf(err error) mqtt.ReasonCode {
	var refused *atls.RefusedError
	switch kind := policy.KindOf(err); {
	case errors.As(err, &refused):
		return mqtt.NotAuthorized
	case kind == attest.ErrFormat:
		return mqtt.ProtocolError
	case kind == attest.ErrAttester, kind == attest.ErrTimeout:
		return mqtt.UnspecifiedError
	}
	return mqtt.NotAuthorized
}
