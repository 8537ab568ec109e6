package transport

import (
	"time"
)

// Rate is how often something may happen. The zero value is any number of times.
type Rate struct {
	PerSecond float64
	Burst     int // how many may come at once; 0 is as many as in a second, at least 1
}

// Rates bounds what the clients of a listener may do. What is zero is not bounded.
//
// A connection that sends faster is read more slowly; nothing is dropped. Connections that come faster are refused.
type Rates struct {
	Messages      Rate // PUBLISH packets that a connection sends
	Bytes         Rate // bytes of MQTT that a connection sends
	Connections   Rate // connections to the listener
	PerAddress    Rate // connections of one IPv4 address, or of one /64 of IPv6
	MaxPerAddress int  // connections that such an address has at a time
}

// bucket is a token bucket: it fills at a rate up to the burst, and what happens takes from it. The zero value has
// no bounds.
type bucket struct {
	rate, burst float64
	level       float64
	at          time.Time // when it had that level
}

func newBucket(r Rate) bucket {
	burst := float64(r.Burst)
	if r.Burst == 0 {
		burst = max(1, r.PerSecond)
	}
	return bucket{rate: r.PerSecond, burst: burst, level: burst}
}

// fill brings the level up to now.
func (b *bucket) fill(now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		if !b.at.IsZero() {
			b.level = min(b.burst, b.level+passed.Seconds()*b.rate)
		}
		b.at = now
	}
}

// allow takes one if there is one.
func (b *bucket) allow(now time.Time) bool {
	if b.rate <= 0 {
		return true
	}
	b.fill(now)
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

// take takes n, and returns how long to wait until it is paid for.
func (b *bucket) take(now time.Time, n int) time.Duration {
	if b.rate <= 0 {
		return 0
	}
	b.fill(now)
	if b.level -= float64(n); b.level >= 0 {
		return 0
	}
	return time.Duration(min(-b.level/b.rate, maxDebt.Seconds()) * float64(time.Second))
}

// maxDebt bounds the time of one wait, so that no rate makes it a time that cannot be told.
const maxDebt = time.Hour

func (b *bucket) isFull(now time.Time) bool {
	b.fill(now)
	return b.rate <= 0 || b.level >= b.burst
}

// pace is what a connection with rates has of them. It belongs to the pump.
type pace struct {
	messages, bytes bucket
	most            int // bytes to read at a time
	told            bool
}

// newPace returns nil if rates says nothing of what connections send.
func newPace(rates *Rates) *pace {
	if rates.Messages.PerSecond == 0 && rates.Bytes.PerSecond == 0 {
		return nil
	}
	p := &pace{messages: newBucket(rates.Messages), bytes: newBucket(rates.Bytes), most: smallBuffer}
	if p.bytes.rate > 0 {
		p.most = max(1, min(p.most, int(p.bytes.burst)))
	}
	return p
}

// keepPace waits as long as the connection's rates ask for, after size bytes with some PUBLISH packets. It returns
// false if the connection is at its end.
func (c *conn) keepPace(size, publishes int) bool {
	now := time.Now()
	wait := max(c.pace.bytes.take(now, size), c.pace.messages.take(now, publishes))
	if wait == 0 {
		return true
	}
	c.transport.counters.slowed.Add(1)
	if !c.pace.told {
		c.pace.told = true
		c.log.Warn("client sends faster than it may; it is read more slowly")
	}
	return c.rest(now.Add(wait))
}

// rest waits until then, or until the core closes the connection. It returns false if the connection is at its end.
func (c *conn) rest(until time.Time) bool {
	for {
		left := time.Until(until)
		if left <= 0 || c.isClosing() {
			return !c.isGone()
		}
		if _, ok := c.awaitResumeFor(min(left, signOfLife)); !ok {
			return false
		}
	}
}
