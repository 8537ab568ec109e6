package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// version is the one that all clients of the load speak.
const version = mqtt.V5

// connectPacket is a CONNECT. With sessionExpiry, in seconds, an earlier session is taken up again, and kept.
func connectPacket(clientID string, sessionExpiry uint32) []byte {
	return connectPacketFor(clientID, sessionExpiry, keepAlive)
}

// connectPacketFor is connectPacket with a keep-alive of so many seconds.
func connectPacketFor(clientID string, sessionExpiry uint32, keepAlive uint16) []byte {
	c := mqtt.Connect{Version: version, KeepAlive: keepAlive, ClientID: []byte(clientID), CleanStart: sessionExpiry == 0}
	c.Props.Has = c.Props.Has.With(mqtt.PropReceiveMaximum)
	c.Props.ReceiveMaximum = ReceiveMaximum
	if sessionExpiry > 0 {
		c.Props.Has = c.Props.Has.With(mqtt.PropSessionExpiryInterval)
		c.Props.SessionExpiryInterval = sessionExpiry
	}
	return mqtt.AppendConnect(nil, &c)
}

func subscribePacket(qos byte, filters ...string) []byte {
	var list []mqtt.Filter
	for _, f := range filters {
		list = append(list, mqtt.Filter{Topic: []byte(f), QoS: qos})
	}
	return mqtt.AppendSubscribe(nil, version, 1, nil, list)
}

func appendPublish(b []byte, topic string, qos byte, id uint16, payload []byte) []byte {
	return mqtt.AppendPublish(b, version, &mqtt.Publish{Topic: []byte(topic), QoS: qos, PacketID: id, Payload: payload})
}

func appendAck(b []byte, kind mqtt.PacketType, id uint16) []byte {
	return mqtt.AppendAck(b, version, kind, id, mqtt.Success, nil)
}

func disconnectPacket() []byte {
	return mqtt.AppendDisconnect(nil, version, mqtt.NormalDisconnection, nil)
}

// readFrame reads one packet into room, which it grows as needed. The packet is good until the next one is read.
func readFrame(r *bufio.Reader, room []byte) (frame []byte, err error) {
	header := 2
	for {
		start, err := r.Peek(header)
		if err != nil {
			return nil, err
		}
		size, ok, fault := mqtt.FrameSize(start)
		if fault != nil {
			return nil, fault
		}
		if ok {
			if cap(room) < size {
				room = make([]byte, size)
			}
			_, err = io.ReadFull(r, room[:size])
			return room[:size], err
		}
		header++
	}
}

// acknowledgement reads a PUBACK, PUBREC, PUBREL or PUBCOMP, and fails if it says no.
func acknowledgement(frame []byte) (id uint16, err error) {
	var a mqtt.Ack
	if fault := mqtt.ParseAck(frame, version, &a); fault != nil {
		return 0, fault
	}
	if a.Reason.Failed() {
		return 0, fmt.Errorf("the broker answered a message with %v", a.Reason)
	}
	return a.PacketID, nil
}

// answer reads CONNACK or SUBACK, and fails if it says no.
func answer(frame []byte) error {
	switch mqtt.TypeOf(frame) {
	case mqtt.CONNACK:
		var c mqtt.Connack
		if fault := mqtt.ParseConnack(frame, version, &c); fault != nil {
			return fault
		}
		if c.Reason.Failed() {
			return fmt.Errorf("the broker refused the connection: %v", c.Reason)
		}
	case mqtt.SUBACK:
		var s mqtt.Suback
		if fault := mqtt.ParseSuback(frame, version, &s); fault != nil {
			return fault
		}
		for _, c := range s.Codes {
			if code := mqtt.ReasonCode(c); code.Failed() {
				return fmt.Errorf("the broker refused the subscription: %v", code)
			}
		}
	default:
		return unexpected(frame)
	}
	return nil
}

// receiveMaximum reads from a CONNACK how many messages at QoS 1 and 2 the broker takes at a time (MQTT 5, 3.2.2.3.3).
func receiveMaximum(connack []byte) int {
	var c mqtt.Connack
	if mqtt.ParseConnack(connack, version, &c) != nil || !c.Props.Has.Has(mqtt.PropReceiveMaximum) {
		return 1<<16 - 1
	}
	return int(c.Props.ReceiveMaximum)
}

// unexpected is an error for a packet that does not belong where it came, above all DISCONNECT.
func unexpected(frame []byte) error {
	if mqtt.TypeOf(frame) != mqtt.DISCONNECT {
		return fmt.Errorf("the broker sent an unexpected %v", mqtt.TypeOf(frame))
	}
	var d mqtt.Disconnect
	if fault := mqtt.ParseServerDisconnect(frame, version, &d); fault != nil {
		return fault
	}
	return fmt.Errorf("the broker sent DISCONNECT: %v", d.Reason)
}

var errNoPacket = errors.New("the broker sent what is no packet of MQTT")

// frames counts PUBLISH packets in a stream that comes in pieces of any size, without keeping it.
type frames struct {
	skip   int // bytes of the current packet that are still to come
	first  byte
	length int // remaining length, as far as it has been read
	digits int // bytes of a fixed header that have been read; 0 between packets
}

// maxHeader is the size of the longest fixed header (MQTT 5, 2.1.4).
const maxHeader = 5

// count returns how many PUBLISH packets begin in b, and an error if the broker ended the connection or sent what
// is no packet.
func (f *frames) count(b []byte) (publishes int, err error) {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(b))
			f.skip -= n
			b = b[n:]
			continue
		}
		if f.digits == 0 && len(b) >= 2 && b[1] < 0x80 { // the common case, at once
			f.first, f.skip = b[0], int(b[1])
			b = b[2:]
		} else if b, err = f.header(b); err != nil || f.digits != 0 {
			return publishes, err
		}
		switch mqtt.PacketType(f.first >> 4) {
		case mqtt.PUBLISH:
			publishes++
		case mqtt.DISCONNECT:
			return publishes, errors.New("the broker sent DISCONNECT to a subscriber")
		}
	}
	return publishes, nil
}

// header reads on in a fixed header. When it is complete, digits is 0 again and skip is set.
func (f *frames) header(b []byte) ([]byte, error) {
	for len(b) > 0 {
		c := b[0]
		b = b[1:]
		if f.digits == 0 {
			f.first, f.length, f.digits = c, 0, 1
			continue
		}
		if f.digits == maxHeader {
			return b, errNoPacket
		}
		f.length |= int(c&0x7f) << (7 * (f.digits - 1))
		f.digits++
		if c < 0x80 {
			f.skip, f.digits = f.length, 0
			return b, nil
		}
	}
	return b, nil
}
