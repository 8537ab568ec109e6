package mqtt

// Publish is a PUBLISH (3.3).
type Publish struct {
	Dup      bool
	Retain   bool
	QoS      byte
	PacketID uint16 // 0 if QoS is 0
	Topic    []byte // empty if a topic alias stands for it
	Payload  []byte
	RawProps []byte // the encoded properties without their length

	// Where Topic, RawProps and Payload begin in the packet, so that a caller can
	// speak of ranges of its input. Building a packet does not look at them.
	TopicAt, PropsAt, PayloadAt int

	Props Properties
}

// ParsePublish reads a PUBLISH that a client sends.
func ParsePublish(frame []byte, v Version, p *Publish) *Fault {
	if f := parsePublish(frame, v, p); f != nil {
		return f
	}
	if p.Props.Has.Has(PropSubscriptionIdentifier) {
		return faultClientSubID // [MQTT-3.3.4-6]
	}
	return nil
}

// ParseServerPublish reads a PUBLISH that a server sends: it may hold
// subscription identifiers.
func ParseServerPublish(frame []byte, v Version, p *Publish) *Fault {
	return parsePublish(frame, v, p)
}

// parsePublish is the hot path of the broker: it does without the reader and
// calls little, because in WebAssembly a call costs as much as reading ten bytes.
func parsePublish(frame []byte, v Version, p *Publish) *Fault {
	at := 2
	if len(frame) < 2 || len(frame) > 129 || int(frame[1]) != len(frame)-2 { // not the shortest remaining length
		var f *Fault
		if at, f = bodyOf(frame, v); f != nil {
			return f
		}
	}
	first := frame[0]
	p.Dup, p.QoS, p.Retain = first&8 != 0, first>>1&3, first&1 != 0
	if !plainPublish[first] {
		if f := checkPublish(first, v); f != nil {
			return f
		}
	}
	p.TopicAt = at + 2
	if p.TopicAt > len(frame) {
		return faultTruncated
	}
	at = p.TopicAt + (int(frame[at])<<8 | int(frame[at+1]))
	if at > len(frame) {
		return faultTruncated
	}
	p.Topic = frame[p.TopicAt:at:at]
	if f := checkTopicName(p.Topic); f != nil {
		return f
	}
	return p.parseRest(frame, at, v)
}

// plainPublish are the first bytes that need no further look.
var plainPublish = [256]bool{
	0x30: true, 0x31: true, 0x32: true, 0x33: true, 0x34: true, 0x35: true, // QoS 0, 1, 2, retained or not
	0x3A: true, 0x3B: true, 0x3C: true, 0x3D: true, // QoS 1, 2 with DUP
}

func checkPublish(first byte, v Version) *Fault {
	switch {
	case first>>4 != byte(PUBLISH):
		return faultPacketType
	case first>>1&3 == 3:
		return faultQoS // [MQTT-3.3.1-4]
	case first&0xE == 8 && v != V31:
		return faultDup // [MQTT-3.3.1-2]
	}
	return nil
}

// parseRest reads what follows the topic.
func (p *Publish) parseRest(frame []byte, at int, v Version) *Fault {
	p.PacketID = 0 // [MQTT-2.2.1-2]
	if p.QoS > 0 {
		if at+2 > len(frame) {
			return faultTruncated
		}
		p.PacketID = uint16(frame[at])<<8 | uint16(frame[at+1])
		if p.PacketID == 0 {
			return faultPacketID // [MQTT-2.2.1-3]
		}
		at += 2
	}
	p.Props.Reset()
	p.PropsAt, p.RawProps = at, nil
	switch {
	case v < V5:
	case at < len(frame) && frame[at] == 0: // no properties
		at++
		p.PropsAt = at
	default:
		var f *Fault
		if at, f = p.parseProperties(frame, at); f != nil {
			return f
		}
	}
	p.PayloadAt = at
	p.Payload = frame[at:len(frame):len(frame)]
	if len(p.Topic) == 0 {
		return p.checkNoTopic(v)
	}
	return nil
}

func (p *Publish) parseProperties(frame []byte, at int) (next int, f *Fault) {
	n, f := ParseProperties(frame[at:], PublishProperties, &p.Props)
	if f != nil {
		return 0, f
	}
	next = at + n
	for frame[p.PropsAt] >= 0x80 {
		p.PropsAt++
	}
	p.PropsAt++
	p.RawProps = frame[p.PropsAt:next:next]
	return next, nil
}

// checkNoTopic tells whether an alias stands for the missing topic.
func (p *Publish) checkNoTopic(v Version) *Fault {
	switch {
	case p.Props.Has.Has(PropTopicAlias):
		return nil
	case v < V5:
		return faultTopicEmpty // [MQTT-4.7.3-1]
	}
	return faultNoTopic // 3.3.2.1
}

// AppendPublish appends a PUBLISH.
func AppendPublish(dst []byte, v Version, p *Publish) []byte {
	head, _ := AppendPublishHead(dst, v, p, len(p.Payload))
	if len(head) == len(dst) {
		return dst
	}
	return append(head, p.Payload...)
}

// AppendPublishHead appends a PUBLISH up to its payload, of which it needs only
// the length; p.Payload is not looked at. packetIDAt is the offset of the two
// bytes of the packet identifier from the beginning of the head, so that one head
// serves many receivers; it is -1 for QoS 0.
func AppendPublishHead(dst []byte, v Version, p *Publish, payloadLen int) (out []byte, packetIDAt int) {
	s := sizer{n: payloadLen}
	s.binary(p.Topic)
	if p.QoS > 0 {
		s.n += 2
	}
	props := s.properties(v, &p.Props)
	if !s.fits() {
		return dst, -1
	}
	start := len(dst)
	dst = appendHeader(dst, p.firstByte(), s.n)
	dst = appendBinary(dst, p.Topic)
	packetIDAt = -1
	if p.QoS > 0 {
		packetIDAt = len(dst) - start
		dst = appendUint16(dst, p.PacketID)
	}
	return appendProperties(dst, v, &p.Props, props), packetIDAt
}

func (p *Publish) firstByte() byte {
	return byte(PUBLISH)<<4 | flagIf(8, p.Dup) | p.QoS&3<<1 | flagIf(1, p.Retain)
}
