package abi

// AuthStage tells where in a connection's life a client is to be authenticated.
type AuthStage uint8

// The stages.
const (
	AuthConnect   AuthStage = 1 + iota // the client sent CONNECT
	AuthContinue                       // it sent AUTH with reason 0x18
	AuthReconnect                      // it is connected and sent AUTH with reason 0x19, to authenticate anew
)

// AuthRequest is the data of EffectAuthenticate: what the client said of itself. One request at a time is open for a
// connection. It is asked for each CONNECT of a peer with Authenticate, for each that names a method of
// [Options].Methods, and for each AUTH. While a client authenticates anew its other packets are handled as ever.
type AuthRequest struct {
	Stage       AuthStage
	ClientID    string // "" if the client left it to the broker
	HasUser     bool   // at AuthConnect, and later once the client is connected and has a user
	HasPassword bool   // at AuthConnect only
	User        string // as the client says at AuthConnect; the user of the session later
	Password    []byte
	Method      string // of enhanced authentication (4.12), "" if the client asked for none
	Data        []byte
}

// AuthAnswer is the data of EventAuthenticated. One that makes no sense (data that cannot be read, a challenge for a client
// without a method, a number that is no reason code of the kind) refuses the client with 0x80; one that nobody waits for
// means nothing. A client that authenticates anew must stay the same user, else it is disconnected with 0x87.
type AuthAnswer struct {
	User   string // who the client is, "" if it stays anonymous; with reason 0 only
	Data   []byte // authentication data for the client, with a method only
	Reason string // reason string for the client, "" is none
	// Properties are user properties of the CONNACK or AUTH, name and value in turn; with reason 0 and a method only.
	Properties []string
}

// AppendAuthRequest appends the encoding of a to b. Byte strings are encoded like strings: at most 65,535 bytes, as MQTT
// bounds them.
func AppendAuthRequest(b []byte, a *AuthRequest) []byte {
	b = append(b, byte(a.Stage), boolByte(a.HasUser), boolByte(a.HasPassword))
	b = appendString(appendString(b, a.ClientID), a.User)
	b = appendBytes(b, a.Password)
	return appendBytes(appendString(b, a.Method), a.Data)
}

// ReadAuthRequest reads what AppendAuthRequest wrote. Nothing of a aliases b.
func ReadAuthRequest(b []byte, a *AuthRequest) error {
	r := reader{b: b}
	a.Stage, a.HasUser, a.HasPassword = AuthStage(r.byte()), r.byte() == 1, r.byte() == 1
	a.ClientID, a.User, a.Password = r.string(), r.string(), r.bytes()
	a.Method, a.Data = r.string(), r.bytes()
	return r.end("authentication request")
}

// AppendAuthAnswer appends the encoding of a to b.
func AppendAuthAnswer(b []byte, a *AuthAnswer) []byte {
	return appendStrings(appendString(appendBytes(appendString(b, a.User), a.Data), a.Reason), a.Properties)
}

// ReadAuthAnswer reads what AppendAuthAnswer wrote. Nothing of a aliases b.
func ReadAuthAnswer(b []byte, a *AuthAnswer) error {
	r := reader{b: b}
	a.User, a.Data, a.Reason, a.Properties = r.string(), r.bytes(), r.string(), r.strings()
	return r.end("authentication answer")
}
