package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
)

// ReattestMethod is the authentication method that CONNECT names for re-attestation over MQTT 5.
const ReattestMethod = atls.ReattestMethod

// ReattestProperty is the user property of CONNACK, and of the AUTH that ends a round, with which the broker says within
// how many seconds the next round must begin. Without it none is demanded.
const ReattestProperty = "vouchmq-reattest-seconds"

// ConfigTopic is where a broker publishes the digest of its configuration when it has come to attest another one: within
// the grace time its clients must have attested again, or are disconnected. A client that subscribes to it calls
// [Reattester.Hurry] when a message comes. The broker's rules must allow the subscription.
const ConfigTopic = "$SYS/broker/attestation/config"

// Reattester lets a client of MQTT 5 and its broker attest to each other again, on the connection that they have, with any
// MQTT library that can send and receive AUTH:
//
//	CONNECT                     authentication method ReattestMethod, without data
//	client sends AUTH 0x19      data from Begin
//	broker sends AUTH 0x18      data for Answer
//	client sends AUTH 0x18      data from Answer
//	broker sends AUTH 0x00      the round is over; ReattestProperty says when the next one is due
//
// Other packets flow meanwhile. Its methods may be called by any goroutine. See the example.
type Reattester struct {
	conn  *atls.Conn
	hurry chan struct{} // holds a token if Keep is to begin a round now

	mu    sync.Mutex
	round *atls.ClientRound
}

// NewReattester returns a Reattester for a connection of Dial. It is nil if the connection was opened without attestation:
// nothing is to be repeated then.
func NewReattester(conn *atls.Conn) *Reattester {
	if !conn.CanReattest() {
		return nil
	}
	return &Reattester{conn: conn, hurry: make(chan struct{}, 1)}
}

// Hurry has Keep begin a round now, or after the one that is on its way.
func (r *Reattester) Hurry() {
	select {
	case r.hurry <- struct{}{}:
	default:
	}
}

// Begin begins a round. It returns the data of AUTH 0x19.
func (r *Reattester) Begin() ([]byte, error) {
	round, request, err := r.conn.Reattest()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.round = round
	return request, nil
}

// errNoRound says that the broker does not keep to the order.
var errNoRound = errors.New("the broker challenges this client, which has begun no round of re-attestation")

// Answer judges the broker by the data of its AUTH 0x18, and returns the data for this client's. A broker that is not what
// the policy says is told nothing: the connection is closed, and the error says why, with an attest.Kind.
func (r *Reattester) Answer(ctx context.Context, challenge []byte) ([]byte, error) {
	r.mu.Lock()
	round := r.round
	r.round = nil
	r.mu.Unlock()
	if round == nil {
		_ = r.conn.Close()
		return nil, errNoRound
	}
	return round.Answer(ctx, challenge)
}

// expiryMargin is how long before the broker's evidence expires the next round begins at the latest, but not sooner than leastWait.
const (
	expiryMargin = 30 * time.Second
	leastWait    = time.Second
)

// wait is how long to wait before the next round, of which the broker says after how many seconds it wants it: no longer than its own
// evidence is good.
func (r *Reattester) wait(after string) (time.Duration, error) {
	seconds, err := strconv.ParseUint(after, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("the broker demands re-attestation after %q, which is no number of seconds", after)
	}
	wait := time.Duration(seconds) * time.Second
	if v := r.conn.Peer().Verdict; v != nil && v.Facts != nil && !v.Facts.Expiry.IsZero() {
		wait = min(wait, max(time.Until(v.Facts.Expiry)-expiryMargin, leastWait))
	}
	return wait, nil
}

// Keep has rounds run as often as the broker demands, and before the broker's evidence expires, until one fails or ctx ends. after is the
// ReattestProperty of CONNACK; if it is "" nothing is demanded, and Keep returns nil. round sends data in AUTH 0x19, returns when AUTH 0x00 has come, and returns the
// ReattestProperty of that.
func (r *Reattester) Keep(ctx context.Context, after string, round func(ctx context.Context, data []byte) (after string, err error)) error {
	for after != "" {
		wait, err := r.wait(after)
		if err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.hurry:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		data, err := r.Begin()
		if err != nil {
			return err
		}
		if after, err = round(ctx, data); err != nil {
			return err
		}
	}
	return nil
}

// Reappraise judges the broker at the other end of a connection by a bundle that has come after it was opened: is this still
// the service, does its certificate belong to the owner, and does the policy accept what its latest evidence said? If the
// verdict does not accept it, the caller is to close the connection. Rounds of re-attestation are by the new policy from then on.
func (b *Bundle) Reappraise(conn *atls.Conn, o Options) *Verdict {
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	peer := conn.Peer()
	if peer.ServerName != b.Service {
		return policy.Refused(attest.Errorf(attest.ErrPolicy, "the bundle is for service %q, and the connection is to %q", b.Service, peer.ServerName), now())
	}
	if err := b.CheckTime(now()); err != nil {
		return policy.Refused(attest.Errorf(attest.ErrPolicy, "%w", err), now())
	}
	if err := b.verify(peer.Certificates, now()); err != nil {
		return policy.Refused(attest.Errorf(attest.ErrTLS, "the broker's certificate is not of the owner that the bundle names: %w", err), now())
	}
	o.Unattested = false
	return conn.Reappraise(b.config(o).Server, now())
}

// verify checks a broker's certificate, leaf first, as the handshake does.
func (b *Bundle) verify(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("there is none")
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: b.Service, Roots: b.Roots(), Intermediates: intermediates, CurrentTime: now})
	return err
}
