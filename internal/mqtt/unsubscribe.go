package mqtt

// Unsubscribe is an UNSUBSCRIBE (3.10).
type Unsubscribe struct {
	PacketID uint16
	Count    int    // number of filters, at least one
	Filters  []byte // the encoded filters, checked; read them with NextTopicFilter
	Props    Properties
}

// ParseUnsubscribe reads an UNSUBSCRIBE and checks all its filters, as
// ParseSubscribe does.
func ParseUnsubscribe(frame []byte, v Version, u *Unsubscribe) *Fault {
	r := open(frame, UNSUBSCRIBE, v)
	u.PacketID = r.packetID()
	r.properties(v, UnsubscribeProperties, &u.Props)
	u.Filters = r.b[r.at:len(r.b):len(r.b)]
	u.Count = 0
	for r.left() > 0 {
		r.topicFilter()
		u.Count++
	}
	if f := r.end(); f != nil {
		return f
	}
	if u.Count == 0 {
		return faultUnsubscribeEmpty // [MQTT-3.10.3-2]
	}
	return nil
}

// NextTopicFilter takes the next filter from rest, which begins as
// Unsubscribe.Filters, and moves rest behind it. ok is false at the end.
func NextTopicFilter(rest *[]byte) (filter []byte, ok bool) {
	r := reader{b: *rest}
	if r.left() == 0 {
		return nil, false
	}
	filter = r.binary()
	*rest = r.b[r.at:]
	return filter, r.fault == nil
}

// AppendUnsubscribe appends an UNSUBSCRIBE. p may be nil.
func AppendUnsubscribe(dst []byte, v Version, id uint16, p *Properties, filters [][]byte) []byte {
	s := sizer{n: 2}
	props := s.properties(v, p)
	for _, filter := range filters {
		s.binary(filter)
	}
	if !s.fits() {
		return dst
	}
	dst = appendHeader(dst, firstByte(UNSUBSCRIBE), s.n)
	dst = appendUint16(dst, id)
	dst = appendProperties(dst, v, p, props)
	for _, filter := range filters {
		dst = appendBinary(dst, filter)
	}
	return dst
}

// Unsuback is an UNSUBACK (3.11). Codes holds one reason code for each filter, in
// their order; it is empty before MQTT 5.
type Unsuback struct {
	PacketID uint16
	Codes    []byte // each a ReasonCode
	Props    Properties
}

// ParseUnsuback reads an UNSUBACK.
func ParseUnsuback(frame []byte, v Version, u *Unsuback) *Fault {
	r := open(frame, UNSUBACK, v)
	u.PacketID = r.packetID() // [MQTT-2.2.1-6]
	r.properties(v, AckProperties, &u.Props)
	u.Codes = nil
	if v >= V5 {
		u.Codes = r.rest()
	}
	if f := r.end(); f != nil {
		return f
	}
	for _, code := range u.Codes {
		if f := ReasonCode(code).check(inUnsuback); f != nil {
			return f // [MQTT-3.11.3-2]
		}
	}
	if v >= V5 && len(u.Codes) == 0 {
		return faultSubackEmpty
	}
	return nil
}

// AppendUnsuback appends an UNSUBACK. p may be nil. Versions before MQTT 5 have
// neither properties nor codes.
func AppendUnsuback(dst []byte, v Version, id uint16, p *Properties, codes []byte) []byte {
	if v < V5 {
		codes = nil
	}
	s := sizer{n: 2 + len(codes)}
	props := s.properties(v, p)
	if !s.fits() {
		return dst
	}
	dst = appendHeader(dst, firstByte(UNSUBACK), s.n)
	dst = appendUint16(dst, id)
	dst = appendProperties(dst, v, p, props)
	return append(dst, codes...)
}
