package mqtt

// Connack is a CONNACK (3.2). In MQTT 3.1 and 3.1.1 the reason is translated
// from and to a return code.
type Connack struct {
	SessionPresent bool
	Reason         ReasonCode
	Props          Properties
}

// ParseConnack reads a CONNACK.
func ParseConnack(frame []byte, v Version, c *Connack) *Fault {
	r := open(frame, CONNACK, v)
	flags := r.byte()
	code := r.byte()
	r.properties(v, ConnackProperties, &c.Props)
	if f := r.end(); f != nil {
		return f
	}
	if v == V31 {
		flags = 0 // MQTT 3.1 (3.2) calls this byte reserved and gives it no value
	}
	if flags > 1 {
		return faultConnackFlags // [MQTT-3.2.2-1]
	}
	c.SessionPresent = flags == 1
	if f := c.setReason(v, code); f != nil {
		return f
	}
	if c.SessionPresent && c.Reason != Success {
		return faultConnackSession // [MQTT-3.2.2-6]
	}
	return nil
}

func (c *Connack) setReason(v Version, code byte) *Fault {
	if v >= V5 {
		c.Reason = ReasonCode(code)
		return c.Reason.check(inConnack) // [MQTT-3.2.2-8]
	}
	if int(code) >= len(connackReasons) {
		return faultConnackReturnCode
	}
	c.Reason = connackReasons[code]
	return nil
}

// check gives the fault of a reason code that none of the given packets may carry.
func (r ReasonCode) check(packets packetSet) *Fault {
	if !r.allowedIn(packets) {
		return faultReasonUnlisted
	}
	return nil
}

// AppendConnack appends a CONNACK. In MQTT 3.1 and 3.1.1 it has no properties,
// and in MQTT 3.1 no session present flag. It appends nothing where these have no
// return code for the reason, see ReasonCode.ConnackV3.
func AppendConnack(dst []byte, v Version, c *Connack) []byte {
	code, ok := c.code(v)
	s := sizer{n: 2}
	props := s.properties(v, &c.Props)
	if !ok || !s.fits() {
		return dst
	}
	dst = appendHeader(dst, firstByte(CONNACK), s.n)
	dst = append(dst, flagIf(1, c.SessionPresent && v != V31), code)
	return appendProperties(dst, v, &c.Props, props)
}

func (c *Connack) code(v Version) (code byte, ok bool) {
	if v >= V5 {
		return byte(c.Reason), true
	}
	return c.Reason.ConnackV3()
}
