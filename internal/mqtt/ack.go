package mqtt

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP (3.4 to 3.7).
type Ack struct {
	Type     PacketType
	PacketID uint16
	Reason   ReasonCode // Success in MQTT 3.1 and 3.1.1
	Props    Properties
}

// ParseAck reads a PUBACK, PUBREC, PUBREL or PUBCOMP.
func ParseAck(frame []byte, v Version, a *Ack) *Fault {
	a.Type = TypeOf(frame)
	if a.Type < PUBACK || a.Type > PUBCOMP {
		return faultPacketType
	}
	// Nearly all are four bytes long, in every version: this is the hot path of QoS 1 and 2.
	if len(frame) == 4 && frame[0] == firstByte(a.Type) && frame[1] == 2 && frame[2]|frame[3] != 0 {
		a.PacketID, a.Reason = uint16(frame[2])<<8|uint16(frame[3]), Success
		a.Props.Reset()
		return nil
	}
	r := open(frame, a.Type, v)
	a.PacketID = r.packetID() // [MQTT-2.2.1-5]
	a.Reason = r.reason(v, AckProperties, &a.Props)
	if f := r.end(); f != nil {
		return f
	}
	// [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]
	return a.Reason.check(1 << a.Type)
}

// reason reads the reason code and the properties at the end of an MQTT 5 packet.
// Both may be missing, or the properties alone (3.4.2.1, 3.4.2.2, 3.14.2.1).
func (r *reader) reason(v Version, allowed PropertySet, p *Properties) ReasonCode {
	p.Reset()
	if v < V5 || r.left() == 0 {
		return Success
	}
	reason := ReasonCode(r.byte())
	if r.left() > 0 {
		r.properties(v, allowed, p)
	}
	return reason
}

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form. p
// may be nil. Versions before MQTT 5 have neither reason nor properties.
func AppendAck(dst []byte, v Version, t PacketType, id uint16, reason ReasonCode, p *Properties) []byte {
	if v < V5 || reason == Success && isEmpty(p) {
		return append(dst, firstByte(t), 2, byte(id>>8), byte(id))
	}
	s := sizer{n: 3}
	props := s.optional(p)
	if !s.fits() {
		return dst
	}
	dst = appendHeader(dst, firstByte(t), s.n)
	dst = append(appendUint16(dst, id), byte(reason))
	return appendOptional(dst, p, props)
}

func isEmpty(p *Properties) bool { return p == nil || p.Has == 0 }

// optional adds properties that are left out, with their length, if there are none.
func (s *sizer) optional(p *Properties) int {
	if isEmpty(p) {
		return 0
	}
	return s.properties(V5, p)
}

func appendOptional(dst []byte, p *Properties, size int) []byte {
	if isEmpty(p) {
		return dst
	}
	return appendProperties(dst, V5, p, size)
}
