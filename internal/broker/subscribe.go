package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// handleSubscribe handles a SUBSCRIBE (3.8).
func (c *Core) handleSubscribe(p *connection, frame []byte) {
	req := &c.subscribe
	if fault := mqtt.ParseSubscribe(frame, p.version, req); fault != nil {
		c.failFault(p, fault)
		return
	}
	var identifier uint32
	if len(req.Props.SubscriptionIDs) > 0 {
		identifier = req.Props.SubscriptionIDs[0]
	}
	c.reasons = c.reasons[:0]
	scans := len(c.scans)
	var f mqtt.Filter
	for rest := req.Filters; mqtt.NextFilter(&rest, &f); {
		c.reasons = append(c.reasons, c.subackCode(c.subscribeTo(p, &f, identifier)))
		c.work++
	}
	at := len(c.acks)
	c.acks = mqtt.AppendSuback(c.acks, p.version, req.PacketID, nil, c.reasons) // [MQTT-3.8.4-6]
	if c.tookAck(p, at) {
		c.flushAcks(p.conn)
		c.startScans(scans)
	}
}

// subackCode returns what stands in a SUBACK for a reason: for clients that know no other failure, 0x80 for all.
func (c *Core) subackCode(reason mqtt.ReasonCode) byte {
	if c.config.Options.Failure80 && reason.Failed() {
		return byte(mqtt.UnspecifiedError)
	}
	return byte(reason)
}

// subscribeTo makes one subscription, and returns the granted QoS or why there is none.
func (c *Core) subscribeTo(p *connection, f *mqtt.Filter, identifier uint32) mqtt.ReasonCode {
	_, _, shared, ok := mqtt.ParseShared(f.Topic)
	switch {
	case shared && !ok:
		return mqtt.TopicFilterInvalid
	case shared:
		return mqtt.SharedSubscriptionsNotSupported
	case c.badTopic(f.Topic):
		c.metBy(abi.LimitTopic, p)
		return mqtt.TopicFilterInvalid
	case !c.maySubscribe(p, f.Topic):
		c.deny(p)
		return mqtt.NotAuthorized
	case !c.roomForSubscription(p.session, f.Topic):
		c.metBy(abi.LimitMemory, p)
		return mqtt.QuotaExceeded
	}
	opts := optionsOf(f)
	isNew, reason := c.addSubscription(p.session, f.Topic, opts, identifier)
	if reason == mqtt.QuotaExceeded {
		c.metBy(abi.LimitSubscriptions, p)
	}
	if !reason.Failed() && (f.RetainHandling == 0 || f.RetainHandling == 1 && isNew) { // [MQTT-3.3.1-9], [MQTT-3.3.1-10]
		c.addScan(p.session, f.Topic, opts, identifier)
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

// handleUnsubscribe handles an UNSUBSCRIBE (3.10).
func (c *Core) handleUnsubscribe(p *connection, frame []byte) {
	req := &c.unsubscribe
	if fault := mqtt.ParseUnsubscribe(frame, p.version, req); fault != nil {
		c.failFault(p, fault)
		return
	}
	c.reasons = c.reasons[:0]
	rest := req.Filters
	for filter, ok := mqtt.NextTopicFilter(&rest); ok; filter, ok = mqtt.NextTopicFilter(&rest) {
		reason := mqtt.NoSubscriptionExisted
		if c.removeSubscription(p.session, filter) {
			reason = mqtt.Success
			if i := c.findScan(p.session, filter); i >= 0 { // [MQTT-3.10.4-2]
				c.endScan(i)
			}
		}
		c.reasons = append(c.reasons, byte(reason))
		c.work++
	}
	at := len(c.acks)
	c.acks = mqtt.AppendUnsuback(c.acks, p.version, req.PacketID, nil, c.reasons) // [MQTT-3.10.4-4]
	c.tookAck(p, at)
}

// tookAck says whether the client takes the acknowledgement that begins at an offset of c.acks. Otherwise it is not
// sent [MQTT-3.1.2-24], and the connection ends: without it the client cannot go on.
func (c *Core) tookAck(p *connection, at int) bool {
	if p.takes(len(c.acks) - at) {
		return true
	}
	c.acks = c.acks[:at]
	c.disconnectClient(p, mqtt.PacketTooLarge, "an acknowledgement is larger than the client takes")
	return false
}
