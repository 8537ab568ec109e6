package gateway

import (
	"errors"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// errOver says that a connection ends here, since the client's version has no word for what the broker said.
var errOver = errors.New("the broker ends the connection")

// translator turns packets of a client of MQTT 3.1 or 3.1.1 into MQTT 5, and those for it back. MQTT 5 with none of
// its properties says what 3.1.1 says, except where a method below tells otherwise.
type translator struct {
	version mqtt.Version // of the client
	out     []byte       // of the translation before
	filters []mqtt.Filter
	topics  [][]byte

	publish     mqtt.Publish
	ack         mqtt.Ack
	subscribe   mqtt.Subscribe
	suback      mqtt.Suback
	unsubscribe mqtt.Unsubscribe
	unsuback    mqtt.Unsuback
	disconnect  mqtt.Disconnect
}

// foreverExpiry is the session expiry interval of a session that does not end (3.1.2.11.2).
const foreverExpiry = 0xFFFFFFFF

// translateConnect makes a CONNECT one of MQTT 5. A clean session there lasts as long as its connection, any other for ever.
func translateConnect(c *mqtt.Connect) {
	c.Version = mqtt.V5
	c.Props.Reset()
	c.Will.Props.Reset()
	if !c.CleanStart {
		c.Props.Has, c.Props.SessionExpiryInterval = c.Props.Has.With(mqtt.PropSessionExpiryInterval), foreverExpiry
	}
}

// up translates a packet of the client, one case for each type. It is valid until the next call.
func (t *translator) up(frame []byte) ([]byte, error) {
	fault, known := (*mqtt.Fault)(nil), true
	out := t.out[:0]
	switch kind := mqtt.TypeOf(frame); kind {
	case mqtt.PUBLISH:
		if fault = mqtt.ParsePublish(frame, t.version, &t.publish); fault == nil {
			t.publish.Props.Reset()
			t.publish.Dup = t.publish.Dup && t.publish.QoS > 0 // MQTT 3.1 does not mind [MQTT-3.3.1-2]
			out = mqtt.AppendPublish(out, mqtt.V5, &t.publish)
		}
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		if fault = mqtt.ParseAck(frame, t.version, &t.ack); fault == nil {
			out = mqtt.AppendAck(out, mqtt.V5, kind, t.ack.PacketID, mqtt.Success, nil)
		}
	case mqtt.SUBSCRIBE:
		if fault = mqtt.ParseSubscribe(frame, t.version, &t.subscribe); fault == nil {
			out = mqtt.AppendSubscribe(out, mqtt.V5, t.subscribe.PacketID, nil, t.filtersOf(t.subscribe.Filters))
		}
	case mqtt.UNSUBSCRIBE:
		if fault = mqtt.ParseUnsubscribe(frame, t.version, &t.unsubscribe); fault == nil {
			out = mqtt.AppendUnsubscribe(out, mqtt.V5, t.unsubscribe.PacketID, nil, t.topicsOf(t.unsubscribe.Filters))
		}
	case mqtt.PINGREQ:
		if fault = mqtt.ParsePingreq(frame, t.version); fault == nil {
			out = mqtt.AppendPingreq(out)
		}
	case mqtt.DISCONNECT:
		if fault = mqtt.ParseDisconnect(frame, t.version, &t.disconnect); fault == nil {
			out = mqtt.AppendDisconnect(out, mqtt.V5, mqtt.NormalDisconnection, nil)
		}
	default:
		known = false
	}
	return t.done(out, fault, known)
}

func (t *translator) filtersOf(raw []byte) []mqtt.Filter {
	t.filters = t.filters[:0]
	for f := (mqtt.Filter{}); mqtt.NextFilter(&raw, &f); {
		t.filters = append(t.filters, mqtt.Filter{Topic: f.Topic, QoS: f.QoS})
	}
	return t.filters
}

func (t *translator) topicsOf(raw []byte) [][]byte {
	t.topics = t.topics[:0]
	for {
		topic, ok := mqtt.NextTopicFilter(&raw)
		if !ok {
			return t.topics
		}
		t.topics = append(t.topics, topic)
	}
}

// down translates a packet of the broker, one case for each type. It is valid until the next call, and empty if the client has nothing to
// know. errOver says that its connection is to be closed.
func (t *translator) down(frame []byte) ([]byte, error) {
	fault, known := (*mqtt.Fault)(nil), true
	out := t.out[:0]
	switch kind := mqtt.TypeOf(frame); kind {
	case mqtt.PUBLISH:
		if fault = mqtt.ParseServerPublish(frame, mqtt.V5, &t.publish); fault == nil {
			out = mqtt.AppendPublish(out, t.version, &t.publish)
		}
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		if fault = mqtt.ParseAck(frame, mqtt.V5, &t.ack); fault == nil && t.refuses() {
			return nil, errOver
		}
		out = mqtt.AppendAck(out, t.version, kind, t.ack.PacketID, mqtt.Success, nil)
	case mqtt.SUBACK:
		if fault = mqtt.ParseSuback(frame, mqtt.V5, &t.suback); fault == nil {
			out = mqtt.AppendSuback(out, t.version, t.suback.PacketID, nil, t.suback.Codes)
		}
	case mqtt.UNSUBACK:
		if fault = mqtt.ParseUnsuback(frame, mqtt.V5, &t.unsuback); fault == nil {
			out = mqtt.AppendUnsuback(out, t.version, t.unsuback.PacketID, nil, nil)
		}
	case mqtt.PINGRESP:
		out = mqtt.AppendPingresp(out)
	case mqtt.DISCONNECT:
		return nil, errOver
	default:
		known = false
	}
	return t.done(out, fault, known)
}

// refuses reports whether the broker has not taken a message of the client. Who may not publish is not told, as MQTT 3.1.1
// has it [MQTT311-3.3.5-2]; where the broker has no room the connection ends, as it does for a client of 3.1.1 that the broker
// serves itself.
func (t *translator) refuses() bool {
	return (t.ack.Type == mqtt.PUBACK || t.ack.Type == mqtt.PUBREC) && t.ack.Reason.Failed() && t.ack.Reason != mqtt.NotAuthorized
}

func (t *translator) done(out []byte, fault *mqtt.Fault, known bool) ([]byte, error) {
	switch {
	case fault != nil:
		return nil, fault.Err()
	case !known:
		return nil, errMisplaced
	}
	if t.out = out; cap(out) > keptFrame {
		t.out = nil
	}
	return out, nil
}
