package broker

import (
	"encoding/binary"
	"slices"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// The permits of a connection are the filters of all rules that name its peer, in order, with the variables
// filled in: kind u8, size u16, filter. Before filters of kind permitStamped there is what stamps their messages, in place
// of a filter.
const (
	permitPublish   = 1
	permitSubscribe = 2
	permitStamped   = 3 // to publish with provenance
	permitStamp     = 4 // see appendStamp
)

// judge finds out what the rules allow a connection, and says whether any rule names it at all.
func (c *Core) judge(p *connection, clientID []byte) (named bool) {
	p.rulesSerial = c.rulesSerial
	p.recent = [numRecent]recent{}
	var peer abi.Peer
	if abi.ReadPeer(c.store.bytes(p.peer), &peer) != nil {
		c.dropPermits(p)
		return false
	}
	encoded := c.encoded[:0]
	for i := range c.config.Rules {
		rule := &c.config.Rules[i]
		identity, ok := names(rule, &peer)
		if !ok {
			continue
		}
		named = true
		v := variables{clientID: clientID, user: peer.User, identity: identity}
		kind := byte(permitPublish)
		if rule.Provenance && len(peer.Identities) > 0 {
			kind, encoded = permitStamped, appendStamp(encoded, identity, &peer)
		}
		encoded = appendPermits(encoded, kind, rule.Publish, &v)
		encoded = appendPermits(encoded, permitSubscribe, rule.Subscribe, &v)
	}
	c.encoded = encoded
	c.takePermits(p, encoded)
	return named
}

// names says whether a rule names a peer, and by which identity.
func names(rule *abi.Rule, peer *abi.Peer) (identity string, ok bool) {
	for i := range rule.Who {
		if who := &rule.Who[i]; fits(who, peer) {
			if who.Identity != "" {
				return who.Identity, true
			}
			if len(peer.Identities) > 0 {
				return peer.Identities[0], true
			}
			return "", true
		}
	}
	return "", false
}

// fits says whether a peer meets all that a condition sets. A condition that sets nothing is met by nobody.
func fits(who *abi.Condition, peer *abi.Peer) bool {
	switch {
	case *who == abi.Condition{}:
		return false
	case who.Listener != "" && who.Listener != peer.Listener:
		return false
	case who.Anonymous && (len(peer.Identities) > 0 || peer.User != ""):
		return false
	case who.Identity != "" && !slices.Contains(peer.Identities, who.Identity):
		return false
	case who.User != "" && who.User != peer.User:
		return false
	}
	return true
}

// variables are what %c, %u and %i stand for.
type variables struct {
	clientID []byte
	user     string
	identity string
}

func appendPermits(b []byte, kind byte, filters []string, v *variables) []byte {
	for _, f := range filters {
		at := len(b)
		b = append(b, kind, 0, 0)
		expanded, ok := v.expand(b, f)
		if !ok || len(expanded)-at-3 > 0xFFFF {
			b = b[:at]
			continue
		}
		b = expanded
		binary.LittleEndian.PutUint16(b[at+1:], uint16(len(b)-at-3))
	}
	return b
}

// expand appends a filter with its variables filled in. It fails if a variable has no value, or one that would
// change what the filter means: a client that calls itself "+" must not get what belongs to all others.
func (v *variables) expand(b []byte, filter string) (_ []byte, ok bool) {
	for i := 0; i < len(filter); i++ {
		if filter[i] != '%' || i+1 == len(filter) {
			b = append(b, filter[i])
			continue
		}
		i++
		at := len(b)
		switch filter[i] {
		case 'c':
			b = append(b, v.clientID...)
		case 'u':
			b = append(b, v.user...)
		case 'i':
			b = append(b, v.identity...)
		default:
			b = append(b, '%', filter[i])
			continue
		}
		if !harmless(b[at:]) {
			return b, false
		}
	}
	return b, true
}

// harmless says whether a value can stand for one level of a filter, or a part of one.
func harmless(value []byte) bool {
	if len(value) == 0 || value[0] == '$' {
		return false
	}
	for _, ch := range value {
		if ch == '+' || ch == '#' || ch == '/' {
			return false
		}
	}
	return true
}

// mayPublish says whether the rules let a connection publish to a topic.
func (c *Core) mayPublish(p *connection, topic []byte) bool {
	_, ok := c.permitToPublish(p, topic)
	return ok
}

// mayPublishUnstamped says whether they do, and ask for no stamp on what is published.
func (c *Core) mayPublishUnstamped(p *connection, topic []byte) bool {
	stamp, ok := c.permitToPublish(p, topic)
	return ok && stamp == nil
}

// permitToPublish says whether the rules let a connection publish to a topic, and with which stamp: encoded user
// properties, nil if there is none. The stamp is valid until the permits change.
func (c *Core) permitToPublish(p *connection, topic []byte) (stamp []byte, ok bool) {
	var kind byte
	var filter, latest []byte
	for b := c.filtersOf(p); len(b) > 0; {
		switch kind, filter, b = nextPermit(b); {
		case kind == permitStamp:
			latest = filter
		case kind == permitPublish && mqtt.Match(filter, topic):
			return nil, true
		case kind == permitStamped && mqtt.Match(filter, topic):
			return latest, true
		}
	}
	return nil, false
}

// maySubscribe says whether the rules let a connection subscribe to a filter: all that it matches must be allowed. For
// a shared subscription that is the filter behind the share name.
func (c *Core) maySubscribe(p *connection, filter []byte) bool {
	_, filter, _, _ = mqtt.ParseShared(filter)
	c.rejudge(p)
	var kind byte
	var allowed []byte
	for b := c.filtersOf(p); len(b) > 0; {
		kind, allowed, b = nextPermit(b)
		c.work++
		if kind == permitSubscribe && mqtt.Covers(allowed, filter) {
			return true
		}
	}
	return false
}

// nextPermit splits the first permit off b.
func nextPermit(b []byte) (kind byte, filter, rest []byte) {
	end := 3 + int(binary.LittleEndian.Uint16(b[1:]))
	return b[0], b[3:end], b[end:]
}

// rejudge brings the permits of a connection up to date after the rules have changed.
func (c *Core) rejudge(p *connection) {
	if p.rulesSerial != c.rulesSerial {
		c.judge(p, c.store.bytes(c.sessions.at(p.session).clientID))
	}
}

// judgeWork is how many units of work it is to judge a connection by few rules.
const judgeWork = 4

// permitsChange judges a connection by rules that have changed, and says whether it is allowed anything else than before.
func (c *Core) permitsChange(p *connection) bool {
	c.clientID = append(c.clientID[:0], c.filtersOf(p)...)
	c.rejudge(p)
	c.work += judgeWork + uint32(len(c.config.Rules))
	return string(c.filtersOf(p)) != string(c.clientID)
}

// ownerOf returns what tells the peers apart that may not have each other's sessions: whose client id is the same,
// but not the identity or the user, gets a session of its own. It is valid until c.encoded is used again.
func (c *Core) ownerOf(p *connection) []byte {
	c.encoded = c.encoded[:0]
	var peer abi.Peer
	if abi.ReadPeer(c.store.bytes(p.peer), &peer) == nil && len(peer.Identities) > 0 {
		c.encoded = append(c.encoded, peer.Identities[0]...)
	}
	c.encoded = append(c.encoded, 0)
	c.encoded = append(c.encoded, peer.User...)
	return c.encoded
}

// owns says whether a session was made by a peer like that of a connection.
func (c *Core) owns(p *connection, session uint32) bool {
	return string(c.store.bytes(c.sessions.at(session).owner)) == string(c.ownerOf(p))
}

// deny counts what the rules refused, and tells of the first time on each connection: of the topic or filter.
func (c *Core) deny(p *connection, topic []byte) {
	c.stats.Denied++
	if !p.denialNoted {
		p.denialNoted = true
		c.noteSubscription(abi.NoteDenied, p, topic, mqtt.NotAuthorized)
	}
}
