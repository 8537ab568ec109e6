package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// filterList is the SUBSCRIBE or UNSUBSCRIBE that is being handled: a packet can name so many filters that they take several steps.
type filterList struct {
	open bool
	left []byte // the filters that come next, in the batch
}

// filterWork is how many units of work a filter of a packet is, besides what the rules take.
const filterWork = 4

// openFilters begins the list of a packet with count filters, unless that had a fault or its answer would be too large for the client.
func (c *Core) openFilters(p *connection, fault *mqtt.Fault, count int, filters []byte) (ok bool) {
	if fault != nil {
		c.failFault(p, fault)
		return false
	}
	if !c.takesCodes(p, count) {
		return false
	}
	c.reasons = c.reasons[:0]
	c.filters.open, c.filters.left = true, filters
	return true
}

// handleSubscribe handles a SUBSCRIBE (3.8), or as much of it as one step should: c.filters.open says that there is more.
func (c *Core) handleSubscribe(p *connection, frame []byte) {
	req, list := &c.subscribe, &c.filters
	if !list.open {
		fault := mqtt.ParseSubscribe(frame, p.version, req)
		if !c.openFilters(p, fault, req.Count, req.Filters) {
			return
		}
	}
	var identifier uint32
	if len(req.Props.SubscriptionIDs) > 0 {
		identifier = req.Props.SubscriptionIDs[0]
	}
	var f mqtt.Filter
	for mqtt.NextFilter(&list.left, &f) {
		reason := c.subscribeTo(p, &f, identifier)
		c.reasons = append(c.reasons, c.subackCode(reason))
		c.noteSubscription(abi.NoteSubscribed, p, f.Topic, reason)
		if c.work += filterWork; c.busy() {
			break
		}
	}
	if list.open = len(list.left) > 0; list.open {
		return
	}
	c.acks = mqtt.AppendSuback(c.acks, p.version, req.PacketID, nil, c.reasons) // [MQTT-3.8.4-6]
	c.flushAcks(p.conn)
	if c.groups.waiting > 0 {
		c.drain(p.session) // it may have joined a group with which messages wait
	}
	c.startScans(p.session)
}

// subackCode returns what stands in a SUBACK for a reason: for clients that know no other failure, 0x80 for all.
func (c *Core) subackCode(reason mqtt.ReasonCode) byte {
	if c.config.Options.Failure80 && reason.Failed() {
		return byte(mqtt.UnspecifiedError)
	}
	return byte(reason)
}

// takesCodes ends the connection of a client that takes no SUBACK or UNSUBACK with so many reason codes
// [MQTT-3.1.2-24]: there is no other answer.
func (c *Core) takesCodes(p *connection, count int) bool {
	remaining := uint32(2 + 1 + count) // packet identifier, property length, codes
	size := 2 + remaining
	for ; remaining >= 128; remaining >>= 7 {
		size++
	}
	if size <= c.sessions.at(p.session).maxPacket {
		return true
	}
	c.fail(p, mqtt.PacketTooLarge, "the acknowledgement is larger than the client takes")
	return false
}

// subscribeTo makes one subscription, and returns the granted QoS or why there is none.
func (c *Core) subscribeTo(p *connection, f *mqtt.Filter, identifier uint32) mqtt.ReasonCode {
	_, filter, shared, ok := mqtt.ParseShared(f.Topic)
	switch {
	case !ok: // [MQTT-4.8.2-1], [MQTT-4.8.2-2]: the others may be good, so that it is not the packet that is malformed
		return mqtt.TopicFilterInvalid
	case c.tooLong(f.Topic) || tooDeep(filter, c.config.Limits.MaxTopicLevels):
		c.metBy(abi.LimitTopic, p)
		return mqtt.TopicFilterInvalid
	case !c.maySubscribe(p, f.Topic):
		c.deny(p, f.Topic)
		return mqtt.NotAuthorized
	case !c.roomForSubscription(p.session, f.Topic):
		c.metBy(abi.LimitMemory, p)
		return mqtt.QuotaExceeded
	}
	opts := optionsOf(f)
	id, isNew, reason := c.addSubscription(p.session, f.Topic, opts, identifier)
	if reason == mqtt.QuotaExceeded {
		c.metBy(abi.LimitSubscriptions, p)
	}
	if shared {
		return reason // retained messages are for those that are not shared (4.8.2)
	}
	if !reason.Failed() && (f.RetainHandling == 0 || f.RetainHandling == 1 && isNew) { // [MQTT-3.3.1-9], [MQTT-3.3.1-10]
		c.addScan(p.session, id, isNew)
	}
	return reason
}

func optionsOf(f *mqtt.Filter) options {
	opts := options(f.QoS) | options(f.RetainHandling)<<4
	if f.NoLocal {
		opts |= 4
	}
	if f.RetainAsPublished {
		opts |= 8
	}
	return opts
}

// handleUnsubscribe handles an UNSUBSCRIBE (3.10), or as much of it as one step should: c.filters.open says that there is more.
func (c *Core) handleUnsubscribe(p *connection, frame []byte) {
	req, list := &c.unsubscribe, &c.filters
	if !list.open {
		fault := mqtt.ParseUnsubscribe(frame, p.version, req)
		if !c.openFilters(p, fault, req.Count, req.Filters) {
			return
		}
	}
	members := c.groups.members
	for filter, ok := mqtt.NextTopicFilter(&list.left); ok; filter, ok = mqtt.NextTopicFilter(&list.left) {
		reason := c.unsubscribeFrom(p, filter)
		c.reasons = append(c.reasons, byte(reason))
		c.noteSubscription(abi.NoteUnsubscribed, p, filter, 0)
		if c.work += filterWork; c.busy() {
			break
		}
	}
	if c.groups.members < members {
		c.giveQueueBack(p.session)
	}
	if list.open = len(list.left) > 0; list.open {
		return
	}
	c.acks = mqtt.AppendUnsuback(c.acks, p.version, req.PacketID, nil, c.reasons) // [MQTT-3.10.4-4]
}

// unsubscribeFrom ends one subscription, and says whether there was one.
func (c *Core) unsubscribeFrom(p *connection, filter []byte) mqtt.ReasonCode {
	if _, _, _, ok := mqtt.ParseShared(filter); !ok {
		return mqtt.TopicFilterInvalid
	}
	if !c.removeSubscription(p.session, filter) {
		return mqtt.NoSubscriptionExisted
	}
	return mqtt.Success
}
