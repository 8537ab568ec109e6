package mqtt

// Disconnect is a DISCONNECT (3.14). Before MQTT 5 it is empty and means
// NormalDisconnection.
type Disconnect struct {
	Reason ReasonCode
	Props  Properties
}

// ParseDisconnect reads a DISCONNECT that a client sends.
func ParseDisconnect(frame []byte, v Version, d *Disconnect) *Fault {
	if f := parseDisconnect(frame, v, d, byClient); f != nil {
		return f
	}
	if d.Props.Has.Has(PropServerReference) {
		return faultClientReference // 3.14.2.2.5
	}
	return nil
}

// ParseServerDisconnect reads a DISCONNECT that a server sends.
func ParseServerDisconnect(frame []byte, v Version, d *Disconnect) *Fault {
	if f := parseDisconnect(frame, v, d, byServer); f != nil {
		return f
	}
	if d.Props.Has.Has(PropSessionExpiryInterval) {
		return faultServerExpiry // [MQTT-3.14.2-2]
	}
	return nil
}

func parseDisconnect(frame []byte, v Version, d *Disconnect, sender packetSet) *Fault {
	r := open(frame, DISCONNECT, v)
	d.Reason = r.reason(v, DisconnectProperties, &d.Props)
	if f := r.end(); f != nil {
		return f
	}
	return d.Reason.check(sender) // [MQTT-3.14.2-1]
}

// AppendDisconnect appends a DISCONNECT in its shortest form. p may be nil.
// Versions before MQTT 5 have neither reason nor properties.
func AppendDisconnect(dst []byte, v Version, reason ReasonCode, p *Properties) []byte {
	if v < V5 {
		reason, p = NormalDisconnection, nil
	}
	return appendReason(dst, DISCONNECT, reason, p)
}

// appendReason appends a packet that is a reason code and properties, both left
// out if they say nothing.
func appendReason(dst []byte, t PacketType, reason ReasonCode, p *Properties) []byte {
	if reason == Success && isEmpty(p) {
		return append(dst, firstByte(t), 0)
	}
	s := sizer{n: 1}
	props := s.optional(p)
	if !s.fits() {
		return dst
	}
	dst = append(appendHeader(dst, firstByte(t), s.n), byte(reason))
	return appendOptional(dst, p, props)
}

// Auth is an AUTH (3.15), of MQTT 5 only.
type Auth struct {
	Reason ReasonCode // Success, ContinueAuthentication or ReAuthenticate
	Props  Properties
}

// ParseAuth reads an AUTH that a client sends.
func ParseAuth(frame []byte, v Version, a *Auth) *Fault {
	if f := parseAuth(frame, v, a); f != nil {
		return f
	}
	if a.Reason == Success {
		return faultAuthSender // 3.15.2.1: the server alone says so
	}
	return nil
}

// ParseServerAuth reads an AUTH that a server sends.
func ParseServerAuth(frame []byte, v Version, a *Auth) *Fault {
	if f := parseAuth(frame, v, a); f != nil {
		return f
	}
	if a.Reason == ReAuthenticate {
		return faultAuthSender // 3.15.2.1: the client alone asks for it
	}
	return nil
}

func parseAuth(frame []byte, v Version, a *Auth) *Fault {
	if v < V5 {
		return faultNotInV3
	}
	r := open(frame, AUTH, v)
	short := r.left() == 0 // success and no properties at all (3.15.2.1)
	a.Reason = r.reason(v, AuthProperties, &a.Props)
	if f := r.end(); f != nil {
		return f
	}
	if !short && !a.Props.Has.Has(PropAuthenticationMethod) {
		return faultAuthMethod // 3.15.2.2.2
	}
	return a.Reason.check(inAuth) // [MQTT-3.15.2-1]
}

// AppendAuth appends an AUTH. p holds the authentication method; it may be nil
// only if reason is Success.
func AppendAuth(dst []byte, reason ReasonCode, p *Properties) []byte {
	return appendReason(dst, AUTH, reason, p)
}
