package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Where a rule asks for it, a message carries who has published it: user properties that the broker alone can write,
// since it takes all of that kind away from what clients send, whatever the rules say. Subscribers can thus believe them
// as far as they believe the broker. MQTT 3.1 and 3.1.1 have no properties to carry them.

// appendStamp appends the permit that holds the stamp of an attested peer, whom a rule names by an identity.
func appendStamp(b []byte, identity string, peer *abi.Peer) []byte {
	at := len(b)
	b = append(b, permitStamp, 0, 0)
	for _, field := range [...]struct{ name, value string }{
		{abi.ProvenanceIdentity, identity}, {abi.ProvenancePlatform, peer.Platform}, {abi.ProvenanceModule, peer.Module},
	} {
		if value := []byte(field.value); field.value != "" && mqtt.ValidText(value) {
			b = mqtt.AppendUser(b, []byte(field.name), value)
		}
	}
	binary.LittleEndian.PutUint16(b[at+1:], uint16(len(b)-at-3)) // names and digests are short
	return b
}

// mark returns the properties that a message goes on with: props without what only the broker may say, and with a stamp,
// if there is one. props may be nil; then room is for the result.
func (c *Core) mark(props *mqtt.Properties, stamp []byte, room *mqtt.Properties) *mqtt.Properties {
	switch {
	case props == nil && stamp == nil:
		return nil
	case props == nil:
		props = room
		props.Reset()
	case stamp == nil && !holdsReserved(props):
		return props
	}
	run := c.marked[:0]
	if props.Has.Has(mqtt.PropUserProperty) {
		run = appendUnreserved(run, props.User)
	}
	c.marked = append(run, stamp...)
	if props.User = c.marked; len(c.marked) == 0 {
		props.Has = props.Has.Without(mqtt.PropUserProperty)
	} else {
		props.Has = props.Has.With(mqtt.PropUserProperty)
	}
	return props
}

// holdsReserved says whether there is a user property that only the broker may write.
func holdsReserved(props *mqtt.Properties) bool {
	if !props.Has.Has(mqtt.PropUserProperty) {
		return false
	}
	for raw := props.User; ; {
		name, _, ok := mqtt.NextUser(&raw)
		if !ok || reserved(name) {
			return ok
		}
	}
}

// appendUnreserved appends the user properties that a client may write.
func appendUnreserved(to, raw []byte) []byte {
	for {
		name, value, ok := mqtt.NextUser(&raw)
		if !ok {
			return to
		}
		if !reserved(name) {
			to = mqtt.AppendUser(to, name, value)
		}
	}
}

// reserved says whether a name is the broker's: those who read names without regard to case must not be fooled either.
func reserved(name []byte) bool {
	if len(name) < len(abi.ProvenancePrefix) {
		return false
	}
	for i := range len(abi.ProvenancePrefix) {
		ch := name[i]
		if 'A' <= ch && ch <= 'Z' {
			ch += 'a' - 'A'
		}
		if ch != abi.ProvenancePrefix[i] {
			return false
		}
	}
	return true
}

// sayToClient adds user properties of the host's own to a packet, name and value in turn.
func (c *Core) sayToClient(props *mqtt.Properties, list []string) {
	run := c.marked[:0]
	for ; len(list) > 1; list = list[2:] {
		if name, value := []byte(list[0]), []byte(list[1]); mqtt.ValidText(name) && mqtt.ValidText(value) {
			run = mqtt.AppendUser(run, name, value)
		}
	}
	if c.marked = run; len(run) > 0 {
		props.Has = props.Has.With(mqtt.PropUserProperty)
		props.User = run
	}
}
