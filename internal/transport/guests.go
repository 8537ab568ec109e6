package transport

import (
	"net/netip"
	"sync"
	"time"
)

// guests knows how many connections each address has, and how fast they come. An IPv6 address stands for the /64
// that it is in, since whoever has one of these has all.
type guests struct {
	most int  // connections of an address at a time; 0 is any number
	rate Rate // at which they may come; none if it is zero

	mu      sync.Mutex
	known   map[netip.Addr]*guest
	sweepAt int // size of known at which those are forgotten who have nothing open
}

// guest is an address. It belongs to guests.
type guest struct {
	open   int
	bucket bucket
}

type verdict int

const (
	welcome verdict = iota
	tooFast
	tooMany
)

// Bounds of what is known of addresses.
const (
	firstSweep = 1024
	mostKnown  = 1 << 16 // addresses, without those that have connections
)

// newGuests returns nil if rates says nothing of addresses.
func newGuests(rates *Rates) *guests {
	if rates.MaxPerAddress == 0 && rates.PerAddress.PerSecond == 0 {
		return nil
	}
	return &guests{most: rates.MaxPerAddress, rate: rates.PerAddress, known: map[netip.Addr]*guest{}, sweepAt: firstSweep}
}

// enter lets a connection of c's address in, or not.
func (g *guests) enter(c *conn) verdict {
	if g == nil {
		return welcome
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.at(prefixOf(c.address.Addr()), c.since)
	switch {
	case g.most > 0 && at.open >= g.most:
		return tooMany
	case !at.bucket.allow(c.since):
		return tooFast
	}
	at.open++
	c.guest = at
	return welcome
}

// leave is for a connection that has ended; one that was never let in has no guest.
func (g *guests) leave(at *guest) {
	if at == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	at.open--
}

// at returns what is known of an address.
func (g *guests) at(address netip.Addr, now time.Time) *guest {
	if at := g.known[address]; at != nil {
		return at
	}
	if len(g.known) >= g.sweepAt {
		g.sweep(now)
	}
	at := &guest{bucket: newBucket(g.rate)}
	g.known[address] = at
	return at
}

// sweep forgets those who have no connection and nothing to wait for; if too many are left, any who have no
// connection: a flood from everywhere is for the listener's own rate.
func (g *guests) sweep(now time.Time) {
	open := 0
	for address, at := range g.known {
		if at.open > 0 {
			open++
		} else if at.bucket.isFull(now) {
			delete(g.known, address)
		}
	}
	for address, at := range g.known {
		if len(g.known)-open < mostKnown {
			break
		}
		if at.open == 0 {
			delete(g.known, address)
		}
	}
	g.sweepAt = max(firstSweep, 2*len(g.known))
}

// prefixOf returns what an address is known by.
func prefixOf(address netip.Addr) netip.Addr {
	if address.Is4() {
		return address
	}
	prefix, _ := address.WithZone("").Prefix(64) // fails only for addresses that are shorter
	return prefix.Addr()
}
