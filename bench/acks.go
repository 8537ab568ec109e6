package bench

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// sendWindow is a publisher's side of QoS 1 and 2 (MQTT 5, 4.3): it keeps a number of messages in flight. The
// first eight bytes of each payload are the message's number, from 0, most significant byte first.
type sendWindow struct {
	topic   string
	qos     byte
	payload []byte
	free    []uint16 // packet ids
	sent    uint64
}

func newSendWindow(topic string, qos byte, payload int) *sendWindow {
	w := &sendWindow{topic: topic, qos: qos, payload: make([]byte, payload)}
	for id := uint16(Window); id > 0; id-- {
		w.free = append(w.free, id)
	}
	return w
}

// flying is the number of messages that are not wholly acknowledged.
func (w *sendWindow) flying() int { return Window - len(w.free) }

// fill appends messages to out for as many packet ids as are free, but at most n.
func (w *sendWindow) fill(out []byte, n int) []byte {
	for ; n > 0 && len(w.free) > 0; n-- {
		id := w.free[len(w.free)-1]
		w.free = w.free[:len(w.free)-1]
		binary.BigEndian.PutUint64(w.payload, w.sent)
		w.sent++
		out = appendPublish(out, w.topic, w.qos, id, w.payload)
	}
	return out
}

// take handles what a publisher gets, and appends the answer to it, if it wants one.
func (w *sendWindow) take(frame, out []byte) ([]byte, error) {
	switch kind := mqtt.TypeOf(frame); kind {
	case mqtt.PUBREC:
		id, err := acknowledgement(frame)
		return appendAck(out, mqtt.PUBREL, id), err
	case mqtt.PUBACK, mqtt.PUBCOMP:
		id, err := acknowledgement(frame)
		w.free = append(w.free, id)
		return out, err
	case mqtt.PINGRESP:
		return out, nil
	}
	return out, unexpected(frame)
}

// receiver is a subscriber's side of QoS 1 and 2. It outlives connections, as the session does.
type receiver struct {
	pending map[uint16]bool       // packet ids of QoS 2 messages that wait for PUBREL
	message func(p *mqtt.Publish) // each message, at QoS 2 once
	publish mqtt.Publish          // used again for each packet
}

// take handles what a subscriber gets, and appends the answer to it, if it wants one.
func (r *receiver) take(frame, out []byte) ([]byte, error) {
	switch mqtt.TypeOf(frame) {
	case mqtt.PUBLISH:
		return r.takePublish(frame, out)
	case mqtt.PUBREL:
		id, err := acknowledgement(frame)
		delete(r.pending, id)
		return appendAck(out, mqtt.PUBCOMP, id), err
	case mqtt.PINGRESP:
		return out, nil
	}
	return out, unexpected(frame)
}

func (r *receiver) takePublish(frame, out []byte) ([]byte, error) {
	p := &r.publish
	if fault := mqtt.ParseServerPublish(frame, version, p); fault != nil {
		return out, fault
	}
	switch p.QoS {
	case 0:
		r.message(p)
	case 1:
		r.message(p)
		out = appendAck(out, mqtt.PUBACK, p.PacketID)
	case 2:
		if !r.pending[p.PacketID] { // [MQTT-4.3.3-10]
			r.pending[p.PacketID] = true
			r.message(p)
		}
		out = appendAck(out, mqtt.PUBREC, p.PacketID)
	}
	return out, nil
}

func newReceiver(message func(*mqtt.Publish)) *receiver {
	return &receiver{pending: map[uint16]bool{}, message: message}
}
