package mqtt

// Subscribe is a SUBSCRIBE (3.8).
type Subscribe struct {
	PacketID uint16
	Count    int    // number of filters, at least one
	Filters  []byte // the encoded filters, checked; read them with NextFilter
	Props    Properties
}

// Filter is one subscription of a SUBSCRIBE (3.8.3.1). Of the options, MQTT 3.1
// and 3.1.1 have QoS only.
type Filter struct {
	Topic             []byte // with $share/GROUP/ before it, if shared
	QoS               byte   // the maximum
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 send retained, 1 only if the subscription is new, 2 never
}

// ParseSubscribe reads a SUBSCRIBE and checks all its filters. Of a filter that
// begins with $share/ it checks the characters only: whether the rest is a share
// name and a filter is for ParseShared to say, so that a server can refuse this
// one subscription with 0x8F and grant the others (3.9.3).
func ParseSubscribe(frame []byte, v Version, s *Subscribe) *Fault {
	r := open(frame, SUBSCRIBE, v)
	s.PacketID = r.packetID()
	r.properties(v, SubscribeProperties, &s.Props)
	s.Filters = r.b[r.at:len(r.b):len(r.b)]
	s.Count = 0
	for r.left() > 0 {
		r.filter(v)
		s.Count++
	}
	if f := r.end(); f != nil {
		return f
	}
	if s.Count == 0 {
		return faultSubscribeEmpty // [MQTT-3.8.3-2]
	}
	if len(s.Props.SubscriptionIDs) > 1 {
		return faultSubIDTwice // 3.8.2.1.2
	}
	return nil
}

// filter checks one filter with its options.
func (r *reader) filter(v Version) {
	topic := r.topicFilter()
	options := r.byte()
	if r.fault == nil {
		r.check(checkOptions(v, topic, options))
	}
}

// topicFilter reads and checks a topic filter ([MQTT-3.8.3-1], [MQTT-3.10.3-1]).
func (r *reader) topicFilter() []byte {
	b := r.binary()
	if r.fault != nil {
		return nil
	}
	if hasSharePrefix(b) {
		r.check(checkText(b))
	} else {
		r.check(checkFilter(b))
	}
	return b
}

// Subscription options (3.8.3.1).
const (
	optionQoS               = 3 << 0
	optionNoLocal           = 1 << 2
	optionRetainAsPublished = 1 << 3
	optionRetainHandling    = 3 << 4
	optionReserved          = 3 << 6

	retainHandlingShift = 4
)

func checkOptions(v Version, topic []byte, options byte) *Fault {
	if v < V5 {
		if options > 2 {
			return faultOptionsReservedV3 // [MQTT311-3.8.3-4]
		}
		return nil
	}
	switch {
	case options&optionReserved != 0:
		return faultOptionsReserved // [MQTT-3.8.3-5]
	case options&optionQoS == 3:
		return faultOptionsQoS
	case options&optionRetainHandling == optionRetainHandling:
		return faultRetainHandling
	case options&optionNoLocal != 0 && hasSharePrefix(topic):
		return faultNoLocalShared // [MQTT-3.8.3-4]
	}
	return nil
}

// NextFilter takes the next filter from rest, which begins as Subscribe.Filters,
// and moves rest behind it. It gives false at the end.
func NextFilter(rest *[]byte, f *Filter) bool {
	r := reader{b: *rest}
	if r.left() == 0 {
		return false
	}
	f.Topic = r.binary()
	options := r.byte()
	f.QoS = options & optionQoS
	f.NoLocal = options&optionNoLocal != 0
	f.RetainAsPublished = options&optionRetainAsPublished != 0
	f.RetainHandling = options >> retainHandlingShift & 3
	*rest = r.b[r.at:]
	return r.fault == nil
}

// AppendSubscribe appends a SUBSCRIBE. p may be nil.
func AppendSubscribe(dst []byte, v Version, id uint16, p *Properties, filters []Filter) []byte {
	s := sizer{n: 2}
	props := s.properties(v, p)
	for i := range filters {
		s.binary(filters[i].Topic)
		s.n++
	}
	if !s.fits() {
		return dst
	}
	dst = appendHeader(dst, firstByte(SUBSCRIBE), s.n)
	dst = appendUint16(dst, id)
	dst = appendProperties(dst, v, p, props)
	for i := range filters {
		dst = append(appendBinary(dst, filters[i].Topic), filters[i].options(v))
	}
	return dst
}

func (f *Filter) options(v Version) byte {
	if v < V5 {
		return f.QoS & optionQoS
	}
	return f.QoS&optionQoS | flagIf(optionNoLocal, f.NoLocal) |
		flagIf(optionRetainAsPublished, f.RetainAsPublished) | f.RetainHandling&3<<retainHandlingShift
}

// Suback is a SUBACK (3.9). Codes holds one reason code for each filter, in their
// order; those of MQTT 3.1.1 are reason codes of MQTT 5 as they are.
type Suback struct {
	PacketID uint16
	Codes    []byte // each a ReasonCode
	Props    Properties
}

// ParseSuback reads a SUBACK.
func ParseSuback(frame []byte, v Version, s *Suback) *Fault {
	r := open(frame, SUBACK, v)
	s.PacketID = r.packetID() // [MQTT-2.2.1-6]
	r.properties(v, AckProperties, &s.Props)
	s.Codes = r.rest()
	if f := r.end(); f != nil {
		return f
	}
	for _, code := range s.Codes {
		if !ReasonCode(code).allowedIn(inSuback) || v < V5 && code > 0x80 {
			return faultSubackCode // [MQTT-3.9.3-2]
		}
	}
	if len(s.Codes) == 0 {
		return faultSubackEmpty // 3.8.3: there was a filter, so there is a code
	}
	return nil
}

// AppendSuback appends a SUBACK. p may be nil. codes are reason codes of MQTT 5;
// before MQTT 5 every failure becomes 0x80.
func AppendSuback(dst []byte, v Version, id uint16, p *Properties, codes []byte) []byte {
	s := sizer{n: 2 + len(codes)}
	props := s.properties(v, p)
	if !s.fits() {
		return dst
	}
	dst = appendHeader(dst, firstByte(SUBACK), s.n)
	dst = appendUint16(dst, id)
	dst = appendProperties(dst, v, p, props)
	if v >= V5 {
		return append(dst, codes...)
	}
	for _, code := range codes {
		dst = append(dst, ReasonCode(code).SubackV3())
	}
	return dst
}
