package mqtt

// Connect is a CONNECT (3.1).
type Connect struct {
	Version     Version
	CleanStart  bool   // clean session in MQTT 3.1.1
	HasWill     bool   // Will is meaningful
	HasUsername bool   // Username is meaningful, even if empty
	HasPassword bool   // Password is meaningful, even if empty
	KeepAlive   uint16 // in seconds; 0 is none
	ClientID    []byte
	Username    []byte
	Password    []byte
	Props       Properties
	Will        Will
}

// Will is the will message of a CONNECT (3.1.3.2 to 3.1.3.4).
type Will struct {
	QoS     byte
	Retain  bool
	Topic   []byte
	Payload []byte
	Props   Properties
}

// Connect flags (3.1.2.3).
const (
	flagReserved   = 1 << 0
	flagCleanStart = 1 << 1
	flagWill       = 1 << 2
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUsername   = 1 << 7

	willQoSShift = 3
)

// ParseConnect reads a CONNECT. When it refuses, c.Version says in which version
// a CONNACK can be written: that of the client, MQTT 3.1.1 for levels before 5
// that this package does not speak and for levels with the high bit set (bridges
// try these first and go on after return code 1), MQTT 5 for later ones, and 0
// if the packet does not come so far and deserves no answer.
func ParseConnect(frame []byte, c *Connect) *Fault {
	c.Version = 0
	r := open(frame, CONNECT, V31) // header flags are looked at when the version is known
	c.readVersion(&r)
	flags := r.byte()
	c.KeepAlive = r.uint16()
	if r.fault == nil {
		r.check(c.checkHeader(frame, flags))
	}
	c.CleanStart = flags&flagCleanStart != 0
	r.properties(c.Version, ConnectProperties, &c.Props)
	c.ClientID = r.text() // [MQTT-3.1.3-3], [MQTT-3.1.3-4]
	c.readWill(&r, flags)
	c.readCredentials(&r, flags)
	if f := r.end(); f != nil {
		return f
	}
	return c.checkClientID()
}

// check takes over the fault of a check made elsewhere.
func (r *reader) check(f *Fault) {
	if f != nil {
		r.fail(f)
	}
}

// readVersion reads protocol name and version (3.1.2.1, 3.1.2.2).
func (c *Connect) readVersion(r *reader) {
	name := r.binary()
	level := r.byte()
	if r.fault != nil {
		return
	}
	c.Version = V311
	switch {
	case string(name) == "MQTT" && (level == byte(V311) || level == byte(V5)):
		c.Version = Version(level)
	case string(name) == "MQIsdp" && level == byte(V31):
		c.Version = V31
	case string(name) == "MQTT" || string(name) == "MQIsdp":
		if level > byte(V5) && level < 0x80 {
			c.Version = V5
		}
		r.fail(faultProtocolVersion) // [MQTT-3.1.2-2]
	default:
		c.Version = 0
		r.fail(faultProtocolName) // [MQTT-3.1.2-1]
	}
}

// checkHeader checks the fixed header again, now for the version of the packet,
// and the connect flags.
func (c *Connect) checkHeader(frame []byte, flags byte) *Fault {
	if _, f := bodyOf(frame, c.Version); f != nil {
		return f
	}
	if f := checkFlags(frame[0], c.Version); f != nil {
		return f
	}
	if c.Version == V31 {
		return checkWillQoS(flags) // MQTT 3.1 leaves the rest undefined
	}
	return checkConnectFlags(c.Version, flags)
}

func checkWillQoS(flags byte) *Fault {
	if flags&flagWill != 0 && flags>>willQoSShift&3 == 3 {
		return faultWillQoS // [MQTT-3.1.2-12]
	}
	return nil
}

func checkConnectFlags(v Version, flags byte) *Fault {
	will := flags&flagWill != 0
	switch {
	case flags&flagReserved != 0:
		return faultConnectReserved // [MQTT-3.1.2-3]
	case !will && flags>>willQoSShift&3 != 0:
		return faultWillQoSUnset // [MQTT-3.1.2-11]
	case !will && flags&flagWillRetain != 0:
		return faultWillRetainUnset // [MQTT-3.1.2-13]
	case v == V311 && flags&(flagUsername|flagPassword) == flagPassword:
		return faultPasswordAlone // [MQTT311-3.1.2-22]; MQTT 5 allows it
	}
	return checkWillQoS(flags)
}

// readWill reads the will properties, topic and payload, in the order of
// [MQTT-3.1.3-1].
func (c *Connect) readWill(r *reader, flags byte) {
	c.HasWill = flags&flagWill != 0
	c.Will.QoS = flags >> willQoSShift & 3
	c.Will.Retain = flags&flagWillRetain != 0
	c.Will.Topic, c.Will.Payload = nil, nil
	c.Will.Props.Reset()
	if !c.HasWill {
		c.Will.QoS, c.Will.Retain = 0, false
		return
	}
	r.properties(c.Version, WillProperties, &c.Will.Props)
	c.Will.Topic = r.topicName() // [MQTT-3.1.3-11]
	c.Will.Payload = r.binary()
}

// topicName reads a topic name that must not be empty.
func (r *reader) topicName() []byte {
	topic := r.binary()
	r.check(checkTopicName(topic))
	if len(topic) == 0 {
		r.fail(faultTopicEmpty) // [MQTT-4.7.3-1]
	}
	return topic
}

// readCredentials reads user name and password.
func (c *Connect) readCredentials(r *reader, flags byte) {
	c.Username, c.Password = nil, nil
	if c.HasUsername = c.follows(r, flags&flagUsername); c.HasUsername {
		c.Username = r.text() // [MQTT-3.1.3-12]
	}
	if c.HasPassword = c.follows(r, flags&flagPassword); c.HasPassword {
		c.Password = r.binary()
	}
}

// follows tells whether a field is there. In MQTT 3.1 (3.1) the remaining length
// takes precedence over the flag of the field.
func (c *Connect) follows(r *reader, flag byte) bool {
	return flag != 0 && (c.Version != V31 || r.left() > 0)
}

func (c *Connect) checkClientID() *Fault {
	switch {
	case c.Version == V31 && (len(c.ClientID) == 0 || characters(c.ClientID) > 23):
		return faultClientIDV31
	case c.Version == V311 && len(c.ClientID) == 0 && !c.CleanStart:
		return faultClientIDEmpty // [MQTT311-3.1.3-8]
	}
	return nil
}

// characters counts the characters of valid UTF-8. (That of the standard library
// may allocate.)
func characters(b []byte) (n int) {
	for _, c := range b {
		if c&0xC0 != 0x80 { // not a continuation byte
			n++
		}
	}
	return n
}

// AppendConnect appends a CONNECT of version c.Version. Fields whose Has is
// false are left out.
func AppendConnect(dst []byte, c *Connect) []byte {
	name := protocolName(c.Version)
	s := sizer{}
	s.binary(name)
	s.n += 4 // version, flags, keep alive
	props := s.properties(c.Version, &c.Props)
	s.binary(c.ClientID)
	willProps := c.sizeRest(&s)
	if !s.fits() {
		return dst
	}
	dst = appendHeader(dst, firstByte(CONNECT), s.n)
	dst = appendBinary(dst, name)
	dst = append(dst, byte(c.Version), c.flags())
	dst = appendUint16(dst, c.KeepAlive)
	dst = appendProperties(dst, c.Version, &c.Props, props)
	dst = appendBinary(dst, c.ClientID)
	return c.appendRest(dst, willProps)
}

func protocolName(v Version) []byte {
	if v == V31 {
		return nameV31[:]
	}
	return nameMQTT[:]
}

var (
	nameV31  = [...]byte{'M', 'Q', 'I', 's', 'd', 'p'}
	nameMQTT = [...]byte{'M', 'Q', 'T', 'T'}
)

// sizeRest adds up what follows the client identifier and gives the size of the
// will properties.
func (c *Connect) sizeRest(s *sizer) (willProps int) {
	if c.HasWill {
		willProps = s.properties(c.Version, &c.Will.Props)
		s.binary(c.Will.Topic)
		s.binary(c.Will.Payload)
	}
	if c.HasUsername {
		s.binary(c.Username)
	}
	if c.HasPassword {
		s.binary(c.Password)
	}
	return willProps
}

func (c *Connect) appendRest(dst []byte, willProps int) []byte {
	if c.HasWill {
		dst = appendProperties(dst, c.Version, &c.Will.Props, willProps)
		dst = appendBinary(dst, c.Will.Topic)
		dst = appendBinary(dst, c.Will.Payload)
	}
	if c.HasUsername {
		dst = appendBinary(dst, c.Username)
	}
	if c.HasPassword {
		dst = appendBinary(dst, c.Password)
	}
	return dst
}

func (c *Connect) flags() byte {
	flags := flagIf(flagCleanStart, c.CleanStart) | flagIf(flagUsername, c.HasUsername) |
		flagIf(flagPassword, c.HasPassword)
	if c.HasWill {
		flags |= flagWill | c.Will.QoS&3<<willQoSShift | flagIf(flagWillRetain, c.Will.Retain)
	}
	return flags
}

func flagIf(flag byte, set bool) byte {
	if set {
		return flag
	}
	return 0
}
