package mqtt

// ParseProperties reads the property length at the start of b and the properties
// behind it into p, and gives the number of bytes that they take. Properties
// outside allowed, values out of range and properties that occur twice are
// faults (2.2.2.2); only user properties and subscription identifiers may repeat.
func ParseProperties(b []byte, allowed PropertySet, p *Properties) (n int, f *Fault) {
	p.Reset()
	length, at, f := varint(b)
	if f != nil {
		return 0, f
	}
	if int(length) > len(b)-at {
		return 0, faultTruncated
	}
	n = at + int(length)
	if length == 0 {
		return n, nil
	}
	if f := p.parse(b[at:n:n], allowed); f != nil {
		return 0, f
	}
	if p.Has.Has(PropAuthenticationData) && !p.Has.Has(PropAuthenticationMethod) {
		return 0, faultAuthData // 3.1.2.11.10
	}
	return n, nil
}

// mayRepeat are the properties that a packet may hold several times.
const mayRepeat PropertySet = 1<<PropUserProperty | 1<<PropSubscriptionIdentifier

// parse reads properties up to the end of b.
func (p *Properties) parse(b []byte, allowed PropertySet) (f *Fault) {
	user := 0 // where the first user property begins
	for at := 0; at < len(b); {
		start, id := at, PropertyID(b[at])
		switch {
		case !allowed.Has(id):
			return faultPropertyUnknown // 2.2.2.2
		case (p.Has &^ mayRepeat).Has(id):
			return faultPropertyTwice
		case id == PropUserProperty:
			if !p.Has.Has(id) {
				user = start
			}
			at, f = checkUser(b, at+1)
			p.User = b[user:at:at]
		case propertyTable[id].kind < kindText:
			at, f = p.parseNumber(b, at+1, id)
		default:
			at, f = p.parseBytes(b, at+1, id)
		}
		if f != nil {
			return f
		}
		p.Has = p.Has.With(id)
	}
	return nil
}

// checkUser checks the two strings of a user property at b[at:] and gives the
// offset behind them.
func checkUser(b []byte, at int) (next int, f *Fault) {
	for range 2 { // [MQTT-1.5.7-1]
		next = skipBinary(b, at)
		if next < 0 {
			return at, faultPropertyLength
		}
		if f := checkText(b[at+2 : next]); f != nil {
			return at, f
		}
		at = next
	}
	return next, nil
}

// parseNumber reads and checks a number at b[at:] and gives the offset behind it.
func (p *Properties) parseNumber(b []byte, at int, id PropertyID) (next int, f *Fault) {
	info := &propertyTable[id]
	var n uint32
	if info.kind == kindVarint {
		var size int
		if n, size, f = varint(b[at:]); f == faultTruncated {
			f = faultPropertyLength
		}
		if f != nil {
			return at, f
		}
		next = at + size
	} else {
		next = at + int(info.kind)
		if next > len(b) {
			return at, faultPropertyLength
		}
		for _, c := range b[at:next] {
			n = n<<8 | uint32(c)
		}
	}
	if n < info.min || n > info.max {
		return at, rangeFault(id)
	}
	p.setNumber(id, n)
	return next, nil
}

func rangeFault(id PropertyID) *Fault {
	if id == PropTopicAlias {
		return faultTopicAliasZero
	}
	return faultPropertyValue
}

// parseBytes reads and checks a string or binary data at b[at:] and gives the
// offset behind it.
func (p *Properties) parseBytes(b []byte, at int, id PropertyID) (next int, f *Fault) {
	next = skipBinary(b, at)
	if next < 0 {
		return at, faultPropertyLength
	}
	value := b[at+2 : next : next]
	switch propertyTable[id].kind {
	case kindText:
		f = checkText(value)
	case kindTopic:
		f = checkResponseTopic(value)
	}
	*p.bytes(id) = value
	return next, f
}

func checkResponseTopic(b []byte) *Fault {
	scan := scanText(b)
	switch {
	case len(b) == 0:
		return faultResponseEmpty
	case scan.wild:
		return faultResponseWildcard // [MQTT-3.3.2-14]
	}
	return scan.check(b)
}

// measure gives the encoded size of the properties without the property length.
func (p *Properties) measure(s *sizer) int {
	if p == nil || p.Has == 0 {
		return 0
	}
	values := sizer{}
	for set := p.Has; set != 0; {
		var id PropertyID
		id, set = set.next()
		p.measureOne(&values, id)
	}
	s.tooLong = s.tooLong || values.tooLong
	return values.n
}

func (p *Properties) measureOne(s *sizer, id PropertyID) {
	switch k := kindOf(byte(id)); k {
	case kindByte, kindUint16, kindUint32:
		s.n += 1 + int(k)
	case kindText, kindTopic, kindBinary:
		s.n++
		s.binary(*p.bytes(id))
	case kindPair:
		p.measureUser(s)
	case kindVarint:
		for _, number := range p.SubscriptionIDs {
			s.n += 1 + varintSize(int(number))
			s.tooLong = s.tooLong || number > MaxRemainingLength
		}
	}
}

func (p *Properties) measureUser(s *sizer) {
	for raw := p.User; ; {
		key, value, ok := NextUser(&raw)
		if !ok {
			return
		}
		s.n += 5 + len(key) + len(value)
	}
}

// PropertiesSize gives the size of what AppendProperties would append.
func PropertiesSize(p *Properties) int {
	s := sizer{}
	s.properties(V5, p)
	return s.n
}

// AppendProperties appends the property length and the properties of p in the
// order of their identifiers; the user properties keep their order among
// themselves ([MQTT-3.3.2-18]). A nil p is no properties. Nothing is appended if
// a value is longer than its length prefix can say.
func AppendProperties(dst []byte, p *Properties) []byte {
	s := sizer{}
	size := s.properties(V5, p)
	if !s.fits() {
		return dst
	}
	return appendProperties(dst, V5, p, size)
}

// appendProperties writes properties whose size has been measured.
func appendProperties(dst []byte, v Version, p *Properties, size int) []byte {
	if v < V5 {
		return dst
	}
	dst = appendVarint(dst, uint32(size)) // [MQTT-2.2.2-1]
	if size == 0 {
		return dst
	}
	for set := p.Has; set != 0; {
		var id PropertyID
		id, set = set.next()
		dst = p.appendOne(dst, id)
	}
	return dst
}

func (p *Properties) appendOne(dst []byte, id PropertyID) []byte {
	switch kindOf(byte(id)) {
	case kindByte:
		return append(dst, byte(id), byte(p.number(id)))
	case kindUint16:
		return appendUint16(append(dst, byte(id)), uint16(p.number(id)))
	case kindUint32:
		return appendUint32(append(dst, byte(id)), p.number(id))
	case kindText, kindTopic, kindBinary:
		return appendBinary(append(dst, byte(id)), *p.bytes(id))
	case kindPair:
		return p.appendUser(dst)
	case kindVarint:
		for _, number := range p.SubscriptionIDs {
			dst = appendVarint(append(dst, byte(id)), number)
		}
	}
	return dst
}

func (p *Properties) appendUser(dst []byte) []byte {
	for raw := p.User; ; {
		key, value, ok := NextUser(&raw)
		if !ok {
			return dst
		}
		dst = AppendUser(dst, key, value)
	}
}
