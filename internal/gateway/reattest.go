package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// roundTime bounds a round of re-attestation. The slowest devices take half a minute for evidence, on either side.
const roundTime = 90 * time.Second

// auth is an AUTH of the broker.
type auth struct {
	reason mqtt.ReasonCode
	data   []byte
	after  string
}

// errMisplaced says that a packet has come that nobody waits for.
var errMisplaced = errors.New("a packet that does not belong there")

// take hands an AUTH of the broker to the round.
func (p *passage) take(packet []byte) error {
	var a mqtt.Auth
	if fault := mqtt.ParseServerAuth(packet, mqtt.V5, &a); fault != nil {
		return fault.Err()
	}
	got := auth{reason: a.Reason}
	if a.Props.Has.Has(mqtt.PropAuthenticationData) {
		got.data = append(got.data, a.Props.AuthenticationData...)
	}
	got.after = cutReattestation(&a.Props)
	select {
	case p.auths <- got:
		return nil
	default:
		return errMisplaced
	}
}

// keep has rounds run as the broker demands them, until the connection ends or one fails.
func (p *passage) keep(ctx context.Context, after string) {
	if after == "" {
		return
	}
	p.watch.join(p)
	defer p.watch.leave(p)
	err := p.again.Keep(ctx, after, p.round)
	// An error without a kind is that of a connection which has ended otherwise.
	if policy.KindOf(err) != 0 && !errors.Is(err, context.Canceled) {
		p.end(err)
	}
}

// round is one round: it does what client.Reattester.Keep asks for.
func (p *passage) round(ctx context.Context, request []byte) (after string, err error) {
	ctx, cancel := context.WithTimeout(ctx, roundTime)
	defer cancel()
	if err := p.remote.send(authPacket(mqtt.ReAuthenticate, request)); err != nil {
		return "", err
	}
	challenge, err := p.await(ctx, mqtt.ContinueAuthentication)
	if err != nil {
		return "", err
	}
	answer, err := p.again.Answer(ctx, challenge.data)
	if err != nil {
		return "", err
	}
	if err := p.remote.send(authPacket(mqtt.ContinueAuthentication, answer)); err != nil {
		return "", err
	}
	done, err := p.await(ctx, mqtt.Success)
	if err != nil {
		return "", err
	}
	p.log.Debug("gateway and broker have attested again")
	p.watch.seen(p)
	return done.after, nil
}

// await waits for an AUTH of the broker.
func (p *passage) await(ctx context.Context, want mqtt.ReasonCode) (auth, error) {
	select {
	case got := <-p.auths:
		if got.reason != want {
			return auth{}, attest.Errorf(attest.ErrFormat, "the broker answers %v in a round of re-attestation, where %v is due", got.reason, want)
		}
		return got, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return auth{}, attest.Errorf(attest.ErrTimeout, "re-attestation of the broker took too long")
		}
		return auth{}, ctx.Err()
	}
}

func authPacket(reason mqtt.ReasonCode, data []byte) []byte {
	p := mqtt.Properties{AuthenticationMethod: []byte(client.ReattestMethod), AuthenticationData: data}
	p.Has = p.Has.With(mqtt.PropAuthenticationMethod).With(mqtt.PropAuthenticationData)
	return mqtt.AppendAuth(nil, reason, &p)
}

// watch notices that the broker has come to attest another configuration: those who do not attest again soon would be
// disconnected. The broker cannot ask for a round, so one of the connections has one begun now and then, and as soon
// as its broker claims something else than before, all that have heard the same as it.
type watch struct {
	mu      sync.Mutex
	claimed map[*passage]attest.Digest // configuration by the latest evidence
	latest  time.Time                  // when a round last succeeded
}

func (w *watch) join(p *passage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.claimed == nil {
		w.claimed = map[*passage]attest.Digest{}
	}
	w.claimed[p] = p.claims()
	if w.latest.IsZero() {
		w.latest = time.Now()
	}
}

func (w *watch) leave(p *passage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.claimed, p)
}

// seen says that a round of p has succeeded.
func (w *watch) seen(p *passage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.latest = time.Now()
	before, now := w.claimed[p], p.claims()
	if w.claimed[p] = now; before == now {
		return
	}
	for other, claimed := range w.claimed {
		if claimed == before {
			other.again.Hurry()
		}
	}
}

// look begins a round if there has been none for that long.
func (w *watch) look(since time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.latest) < since {
		return
	}
	for p := range w.claimed { // any will do
		p.again.Hurry()
		return
	}
}

// run looks every now and then, until ctx ends.
func (w *watch) run(ctx context.Context, every time.Duration) {
	for every > 0 {
		jitter := time.Duration(rand.Int64N(int64(every)/5 + 1)) // gateways that came together do not stay together
		timer := time.NewTimer(every - jitter)
		select {
		case <-timer.C:
			w.look(every / 2)
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// claims is the configuration that the broker's latest evidence claims.
func (p *passage) claims() (d attest.Digest) {
	if v := p.conn.Peer().Verdict; v != nil && v.Facts != nil {
		d = v.Facts.Config
	}
	return d
}
