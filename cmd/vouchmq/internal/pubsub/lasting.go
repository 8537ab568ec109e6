package pubsub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Link says how a client that lasts gets its connections, and when it gets another.
type Link struct {
	// Dial opens a connection, and verifies the broker if it is to attest, by the bundle as it is then.
	Dial func(context.Context) (net.Conn, error)
	// Reconnect has the client connect anew when its connection is lost. Without it that is the end.
	Reconnect bool
	// Every is the time after which a client of a version before 5 connects anew, before its broker finds its evidence too old: there
	// is no AUTH; 0 if it gives none.
	Every time.Duration
	// Renewed says that Dial goes by another bundle: Reappraise then judges the broker at the other end. Both may be nil; with
	// Reappraise the client has itself told when the broker attests another configuration.
	Renewed    <-chan struct{}
	Reappraise func(*atls.Conn) *client.Verdict

	Pause, LongestPause time.Duration // between two attempts: the first, which doubles up to the last; 0 is 1 s and 30 s
}

// Times of a client that lasts.
const (
	defaultPause        = time.Second
	defaultLongestPause = 30 * time.Second
	retryRenewal        = 5 * time.Second  // until the next attempt after one that failed for want of a connection
	expiryMargin        = 30 * time.Second // before the broker's evidence expires it is to be verified again
)

// lasting is a client that outlives its connections. It connects anew when one is lost; when the broker is to be verified again
// and the version of MQTT has no AUTH; and when the broker is refused on a connection that stood, once: its bundle may have been
// renewed along with it.
//
// The session moves to the next connection by its client id. Where the broker has none any more, the client subscribes again;
// retained messages come again then, and what is sent in between may be missed.
type lasting struct {
	link     Link
	options  Options
	receiver func(*Message)
	end      *ending
	ctx      context.Context // ends with the client
	cancel   context.CancelFunc
	told     chan struct{} // the broker says that it attests another configuration
	pause    time.Duration // before the next attempt

	mu    sync.RWMutex  // held for reading while a connection is used, for writing while another takes its place
	now   *line         // nil while there is none
	there chan struct{} // closed when there is one again

	wanted wanted
}

// line is one connection of a client that lasts.
type line struct {
	connection
	attested *atls.Conn // nil if the broker was not asked for evidence
	since    time.Time
	renewAt  time.Time // when another is to take its place; zero: never
}

// Last is Connect for a client that outlives its connections. The first one must come about.
func Last(ctx context.Context, link Link, o Options) (Client, error) {
	if link.Pause == 0 {
		link.Pause, link.LongestPause = defaultPause, defaultLongestPause
	}
	l := &lasting{
		link: link, options: o.withDefaults(), receiver: o.Receive, end: newEnding(), told: make(chan struct{}, 1), pause: link.Pause,
	}
	if o.Receive != nil {
		l.options.Receive = l.receive
	}
	first, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	l.now = first
	l.options.CleanStart = l.options.cleanAgain()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	go l.run(first)
	return l, nil
}

// run attends to one connection after the other.
func (l *lasting) run(c *line) {
	defer l.cancel()
	for c != nil {
		c = l.attend(c)
	}
}

// attend waits for what happens to a connection, and returns the one that stands then; nil if it is over.
func (l *lasting) attend(c *line) *line {
	var renewal <-chan time.Time
	if !c.renewAt.IsZero() {
		timer := time.NewTimer(time.Until(c.renewAt))
		defer timer.Stop()
		renewal = timer.C
	}
	select {
	case <-l.ctx.Done():
		return nil
	case <-c.Done():
		return l.again(c.Err())
	case <-renewal:
		return l.replace(c)
	case <-l.told:
		if c.attestAgain() || c.attested == nil {
			return c
		}
		return l.replace(c)
	case <-l.link.Renewed:
		l.judge(c)
		return c
	}
}

// again connects anew until it succeeds, or fails for a reason that does not pass; lost is why the connection ended.
func (l *lasting) again(lost error) *line {
	l.vacate()
	if !l.link.Reconnect || !passesStanding(lost) {
		return l.finish(lost)
	}
	for {
		l.options.Notice(fmt.Sprintf("%s; connecting anew in %v", describe(lost), l.pause.Round(time.Millisecond)))
		if !l.rest() {
			return nil
		}
		next, err := l.open(l.ctx)
		if err == nil {
			l.install(next)
			return next
		}
		if l.ctx.Err() != nil {
			return nil
		}
		if lost = err; !passes(lost) {
			return l.finish(lost)
		}
	}
}

// describe says what has become of a connection.
func describe(err error) string {
	if client.Refused(err) {
		return "the broker is REFUSED, and nothing more is sent to it: " + err.Error()
	}
	return err.Error()
}

// rest waits before an attempt, longer each time, and not as long as others who have lost the same broker. It reports whether the client is still wanted.
func (l *lasting) rest() bool {
	timer := time.NewTimer(l.pause - rand.N(l.pause/4+1))
	defer timer.Stop()
	l.pause = min(2*l.pause, l.link.LongestPause)
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// vacate has those who want to use a connection wait for the next one.
func (l *lasting) vacate() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now != nil && time.Since(l.now.since) > l.link.LongestPause {
		l.pause = l.link.Pause
	}
	l.now, l.there = nil, make(chan struct{})
}

// install lets those who wait use a connection.
func (l *lasting) install(c *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = c
	close(l.there)
	l.options.Notice(c.describe())
}

func (c *line) describe() string {
	v := (*client.Verdict)(nil)
	if c.attested != nil {
		v = c.attested.Peer().Verdict
	}
	if v == nil || v.Facts == nil {
		return "connected anew"
	}
	return fmt.Sprintf("connected anew: the broker has been verified again, configuration %v", v.Facts.Config)
}

// finish ends the client.
func (l *lasting) finish(err error) *line {
	l.end.set(err)
	return nil
}

// open opens a connection, on which the client is subscribed to what it wants.
func (l *lasting) open(ctx context.Context) (*line, error) {
	conn, err := l.link.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &line{since: time.Now()}
	if a, ok := conn.(*atls.Conn); ok && a.CanReattest() {
		c.attested = a
	}
	if c.connection, err = connect(ctx, conn, l.options); err != nil {
		return nil, err
	}
	c.renewAt = l.renewAt(c)
	if c.present() {
		return c, nil
	}
	if err := l.wanted.restore(ctx, c); err != nil {
		_ = c.Disconnect(nil)
		return nil, err
	}
	return c, nil
}

// renewAt is when another connection is to take the place of one on which the sides cannot attest again.
func (l *lasting) renewAt(c *line) (at time.Time) {
	if l.options.Version == V5 || c.attested == nil {
		return at
	}
	if l.link.Every > 0 {
		at = c.since.Add(l.link.Every)
	}
	v := c.attested.Peer().Verdict
	if v == nil || v.Facts == nil || v.Facts.Expiry.IsZero() {
		return at
	}
	if before := v.Facts.Expiry.Add(-expiryMargin); at.IsZero() || before.Before(at) {
		at = later(before, c.since.Add(retryRenewal))
	}
	return at
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// replace has the session go on over another connection, which stands and is verified before the old one goes (make before break).
func (l *lasting) replace(c *line) *line {
	l.mu.Lock() // nobody is in the middle of something
	next, err := l.open(l.ctx)
	switch {
	case err == nil:
		l.now = next
		l.mu.Unlock()
		_ = c.Disconnect(nil) // the broker has ended it: the session was taken over
		l.options.Notice(next.describe())
		return next
	case passes(err) && !isOver(c): // nobody is there: the old connection goes on
		l.mu.Unlock()
		c.renewAt = time.Now().Add(min(retryRenewal, max(l.link.Every, time.Second)))
		return c
	}
	l.mu.Unlock()
	if l.ctx.Err() != nil {
		return nil
	}
	c.abandon(err)
	return l.again(err)
}

func isOver(c Client) bool {
	select {
	case <-c.Done():
		return true
	default:
		return false
	}
}

// judge judges the broker by a bundle that has been renewed.
func (l *lasting) judge(c *line) {
	if c.attested == nil || l.link.Reappraise == nil {
		return
	}
	if v := l.link.Reappraise(c.attested); !v.Accepted {
		c.abandon(fmt.Errorf("the broker is not what the renewed bundle says: %w", v.Err))
		return
	}
	l.options.Notice("the broker is what the renewed bundle says, too")
}

// receive takes what the broker says about itself out of what comes.
func (l *lasting) receive(m *Message) {
	if m.Topic == client.ConfigTopic {
		select {
		case l.told <- struct{}{}:
		default:
		}
		if !l.wanted.covers(m.Topic) {
			return
		}
	}
	l.receiver(m)
}

// use has something done with the connection that stands, and waits for one if there is none.
func (l *lasting) use(ctx context.Context, do func(*line) error) error {
	for {
		l.mu.RLock()
		if c := l.now; c != nil {
			defer l.mu.RUnlock()
			return do(c)
		}
		there := l.there
		l.mu.RUnlock()
		select {
		case <-there:
		case <-l.end.known:
			return l.end.get()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Publish sends a message again over the next connection if it is not known to have arrived. At QoS 2 it might arrive twice: then the error says so.
func (l *lasting) Publish(ctx context.Context, m *Message) error {
	for {
		lost := false
		err := l.use(ctx, func(c *line) error {
			err := c.Publish(ctx, m)
			lost = err != nil && lostWith(ctx, c)
			return err
		})
		switch {
		case !lost || !l.link.Reconnect:
			return err
		case m.QoS == 2:
			return fmt.Errorf("%w: a message at QoS 2 was on its way to %s; it is not known whether it arrived", ErrLost, m.Topic)
		}
	}
}

// learnTime is how long it may take until it is known that a connection, over which something could not be sent, has ended.
const learnTime = 2 * time.Second

// lostWith says whether a connection over which something could not be sent has ended.
func lostWith(ctx context.Context, c Client) bool {
	timer := time.NewTimer(learnTime)
	defer timer.Stop()
	select {
	case <-c.Done():
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (l *lasting) Subscribe(ctx context.Context, s []Subscription, p Properties) (granted []byte, err error) {
	err = l.use(ctx, func(c *line) error {
		if granted, err = c.Subscribe(ctx, s, p); err == nil {
			l.wanted.add(s, p, l.link.Reappraise != nil)
			l.wanted.listen(ctx, c)
		}
		return err
	})
	return granted, err
}

func (l *lasting) Unsubscribe(ctx context.Context, filters []string, p Properties) error {
	return l.use(ctx, func(c *line) error {
		l.wanted.remove(filters)
		return c.Unsubscribe(ctx, filters, p)
	})
}

func (l *lasting) Disconnect(p Properties) error {
	l.end.set(ErrLost)
	l.cancel()
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.now == nil {
		return nil
	}
	return l.now.Disconnect(p)
}

func (l *lasting) Done() <-chan struct{} { return l.end.known }

func (l *lasting) Err() error { return l.end.get() }

// passes says whether an error that prevented a connection may be over by the next attempt.
func passes(err error) bool {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal.passes()
	}
	if policy.KindOf(err) == attest.ErrMissing {
		return true // a broker that goes down may have closed the connection before it gave evidence
	}
	return !client.Refused(err) && !errors.Is(err, client.ErrBundleExpired)
}

// passesStanding says whether it is worth an attempt to connect after a connection that stood has ended so. That a broker was refused
// on it is: it may be another by now, or the bundle.
func passesStanding(err error) bool {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal.passes() || refusal.Reason == byte(mqtt.NotAuthorized) || refusal.Reason == byte(mqtt.AdministrativeAction)
	}
	return true
}
