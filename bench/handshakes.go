package bench

import (
	"encoding/binary"
	"fmt"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// The clients of a measurement at QoS 1 and 2 take all packets that have come at once, and look at no more of them
// than they must: a fixed header and a packet id. What they do not know goes to the ordinary functions, which say what
// is wrong with it.

// idSet is a set of packet ids.
type idSet [1 << 16 / 64]uint64

func (s *idSet) has(id uint16) bool { return s[id/64]&(1<<(id%64)) != 0 }
func (s *idSet) add(id uint16)      { s[id/64] |= 1 << (id % 64) }
func (s *idSet) remove(id uint16)   { s[id/64] &^= 1 << (id % 64) }

// sendWindow is a publisher's side of QoS 1 and 2 (MQTT 5, 4.3): it keeps a number of messages in flight. Packet ids go up
// one by one, as those of most clients do. The first eight bytes of each payload are the message's number, from 0, most
// significant byte first.
type sendWindow struct {
	packet   []byte // a PUBLISH but for its packet id and number
	idAt     int
	numberAt int
	inUse    idSet
	flying   int // messages that are not wholly acknowledged
	most     int // of those
	last     uint16
	sent     uint64
}

// newSendWindow is for payloads of at least 8 bytes, and up to most messages in flight, fewer than there are packet ids.
func newSendWindow(topic string, qos byte, payload, most int) *sendWindow {
	w := &sendWindow{packet: appendPublish(nil, topic, qos, 1, make([]byte, payload)), most: most}
	w.numberAt = len(w.packet) - payload
	w.idAt = w.numberAt - 1 - 2 // before the length of the properties, of which there are none
	return w
}

// fill appends messages to out, as many as may be sent, but at most n.
func (w *sendWindow) fill(out []byte, n int) []byte {
	for n = min(n, w.most-w.flying); n > 0; n-- {
		for w.last++; w.last == 0 || w.inUse.has(w.last); w.last++ {
		}
		w.inUse.add(w.last)
		w.flying++
		at := len(out)
		out = append(out, w.packet...)
		binary.BigEndian.PutUint16(out[at+w.idAt:], w.last)
		binary.BigEndian.PutUint64(out[at+w.numberAt:], w.sent)
		w.sent++
	}
	return out
}

// take handles one packet that the publisher gets and appends the answer to it, if it wants one.
func (w *sendWindow) take(frame, out []byte) ([]byte, error) {
	kind, id, ok := shortAck(frame)
	if !ok {
		return w.takeLong(frame, out)
	}
	switch {
	case !w.inUse.has(id):
		return out, fmt.Errorf("the broker acknowledged packet id %d, which is not in use", id)
	case kind == mqtt.PUBREC:
		return append(out, byte(mqtt.PUBREL)<<4|2, 2, frame[2], frame[3]), nil
	case kind == mqtt.PUBACK, kind == mqtt.PUBCOMP:
		w.inUse.remove(id)
		w.flying--
		return out, nil
	}
	return out, unexpected(frame)
}

func (w *sendWindow) takeLong(frame, out []byte) ([]byte, error) {
	switch mqtt.TypeOf(frame) {
	case mqtt.PINGRESP:
		return out, nil
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP:
		id, err := acknowledgement(frame)
		if err != nil {
			return out, err
		}
		return w.take(appendAck(nil, mqtt.TypeOf(frame), id), out)
	}
	return out, unexpected(frame)
}

// shortAck reads an acknowledgement without reason code, which means success.
func shortAck(frame []byte) (kind mqtt.PacketType, id uint16, ok bool) {
	if len(frame) != 4 {
		return 0, 0, false
	}
	return mqtt.TypeOf(frame), binary.BigEndian.Uint16(frame[2:]), true
}

// receiver is a subscriber's side of QoS 1 and 2. It outlives connections, as the session does.
type receiver struct {
	unreleased idSet // packet ids of QoS 2 messages that wait for PUBREL
	waiting    int   // so many
	got        int   // messages, at QoS 2 each once
	message    func(p *mqtt.Publish)
	publish    mqtt.Publish // used again for each packet
}

// newReceiver hands each message to message, unless that is nil.
func newReceiver(message func(*mqtt.Publish)) *receiver { return &receiver{message: message} }

// take handles one packet that the subscriber gets and appends the answer to it, if it wants one.
func (r *receiver) take(frame, out []byte) ([]byte, error) {
	switch mqtt.TypeOf(frame) {
	case mqtt.PUBLISH:
		return r.takePublish(frame, out)
	case mqtt.PUBREL:
		_, id, ok := shortAck(frame)
		if !ok {
			var err error
			if id, err = acknowledgement(frame); err != nil {
				return out, err
			}
		}
		if r.unreleased.has(id) {
			r.unreleased.remove(id)
			r.waiting--
		}
		return append(out, byte(mqtt.PUBCOMP)<<4, 2, byte(id>>8), byte(id)), nil
	case mqtt.PINGRESP:
		return out, nil
	}
	return out, unexpected(frame)
}

func (r *receiver) takePublish(frame, out []byte) ([]byte, error) {
	header := 2
	for frame[header-1] >= 0x80 {
		header++
	}
	if len(frame) < header+2 {
		return out, errNoPacket
	}
	at := header + 2 + int(binary.BigEndian.Uint16(frame[header:]))
	qos := frame[0] >> 1 & 3
	if qos == 0 {
		return out, r.count(frame)
	}
	if len(frame) < at+2 {
		return out, errNoPacket
	}
	if qos == 1 {
		return append(out, byte(mqtt.PUBACK)<<4, 2, frame[at], frame[at+1]), r.count(frame)
	}
	out = append(out, byte(mqtt.PUBREC)<<4, 2, frame[at], frame[at+1])
	id := binary.BigEndian.Uint16(frame[at:])
	if r.unreleased.has(id) { // [MQTT-4.3.3-10]
		return out, nil
	}
	r.unreleased.add(id)
	r.waiting++
	return out, r.count(frame)
}

// count counts a message, and hands it to whoever wants to see it.
func (r *receiver) count(frame []byte) error {
	r.got++
	if r.message == nil {
		return nil
	}
	if fault := mqtt.ParseServerPublish(frame, version, &r.publish); fault != nil {
		return fault
	}
	r.message(&r.publish)
	return nil
}
