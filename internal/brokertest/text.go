package brokertest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// propertyNames are the words that stand for properties; forward are those that a will has too.
var propertyNames = []struct {
	id      mqtt.PropertyID
	word    string
	forward bool
}{
	{mqtt.PropPayloadFormatIndicator, "format", true},
	{mqtt.PropMessageExpiryInterval, "expiry", true},
	{mqtt.PropContentType, "content-type", true},
	{mqtt.PropResponseTopic, "response-topic", true},
	{mqtt.PropCorrelationData, "correlation", true},
	{mqtt.PropSessionExpiryInterval, "session-expiry", false},
	{mqtt.PropAssignedClientIdentifier, "assigned-id", false},
	{mqtt.PropServerKeepAlive, "server-keep-alive", false},
	{mqtt.PropAuthenticationMethod, "auth-method", false},
	{mqtt.PropAuthenticationData, "auth-data", false},
	{mqtt.PropRequestResponseInformation, "response-info", false},
	{mqtt.PropResponseInformation, "response-prefix", false},
	{mqtt.PropServerReference, "server", false},
	{mqtt.PropRequestProblemInformation, "problem-info", false},
	{mqtt.PropReasonString, "reason-string", false},
	{mqtt.PropReceiveMaximum, "receive-maximum", false},
	{mqtt.PropTopicAliasMaximum, "alias-maximum", false},
	{mqtt.PropTopicAlias, "alias", false},
	{mqtt.PropMaximumPacketSize, "packet-maximum", false},
	{mqtt.PropSharedSubscriptionAvailable, "shared", false},
}

// textField returns the field of a property that is text or bytes, nil for the others.
func textField(id mqtt.PropertyID, p *mqtt.Properties) *[]byte {
	switch id {
	case mqtt.PropContentType:
		return &p.ContentType
	case mqtt.PropResponseTopic:
		return &p.ResponseTopic
	case mqtt.PropCorrelationData:
		return &p.CorrelationData
	case mqtt.PropAssignedClientIdentifier:
		return &p.AssignedClientIdentifier
	case mqtt.PropAuthenticationMethod:
		return &p.AuthenticationMethod
	case mqtt.PropAuthenticationData:
		return &p.AuthenticationData
	case mqtt.PropResponseInformation:
		return &p.ResponseInformation
	case mqtt.PropServerReference:
		return &p.ServerReference
	case mqtt.PropReasonString:
		return &p.ReasonString
	}
	return nil
}

func setNumber(id mqtt.PropertyID, n uint32, p *mqtt.Properties) {
	switch id {
	case mqtt.PropPayloadFormatIndicator:
		p.PayloadFormatIndicator = byte(n)
	case mqtt.PropMessageExpiryInterval:
		p.MessageExpiryInterval = n
	case mqtt.PropSessionExpiryInterval:
		p.SessionExpiryInterval = n
	case mqtt.PropServerKeepAlive:
		p.ServerKeepAlive = uint16(n)
	case mqtt.PropRequestProblemInformation:
		p.RequestProblemInformation = n != 0
	case mqtt.PropRequestResponseInformation:
		p.RequestResponseInformation = n != 0
	case mqtt.PropReceiveMaximum:
		p.ReceiveMaximum = uint16(n)
	case mqtt.PropTopicAliasMaximum:
		p.TopicAliasMaximum = uint16(n)
	case mqtt.PropTopicAlias:
		p.TopicAlias = uint16(n)
	case mqtt.PropMaximumPacketSize:
		p.MaximumPacketSize = n
	case mqtt.PropSharedSubscriptionAvailable:
		p.SharedSubscriptionAvailable = n != 0
	}
}

func numberOf(id mqtt.PropertyID, p *mqtt.Properties) uint32 {
	switch id {
	case mqtt.PropPayloadFormatIndicator:
		return uint32(p.PayloadFormatIndicator)
	case mqtt.PropMessageExpiryInterval:
		return p.MessageExpiryInterval
	case mqtt.PropSessionExpiryInterval:
		return p.SessionExpiryInterval
	case mqtt.PropServerKeepAlive:
		return uint32(p.ServerKeepAlive)
	case mqtt.PropReceiveMaximum:
		return uint32(p.ReceiveMaximum)
	case mqtt.PropTopicAliasMaximum:
		return uint32(p.TopicAliasMaximum)
	case mqtt.PropTopicAlias:
		return uint32(p.TopicAlias)
	case mqtt.PropMaximumPacketSize:
		return p.MaximumPacketSize
	case mqtt.PropSharedSubscriptionAvailable:
		if p.SharedSubscriptionAvailable {
			return 1
		}
	}
	return 0
}

// describeProperties returns the words for the properties of a packet.
func describeProperties(p *mqtt.Properties) (list []string) {
	rest := p.Has.Without(mqtt.PropUserProperty).Without(mqtt.PropSubscriptionIdentifier)
	for _, name := range propertyNames {
		if !p.Has.Has(name.id) {
			continue
		}
		rest = rest.Without(name.id)
		if text := textField(name.id, p); text != nil {
			list = append(list, name.word+"="+oneWord(string(*text)))
		} else {
			list = append(list, fmt.Sprintf("%s=%d", name.word, numberOf(name.id, p)))
		}
	}
	for raw := p.User; p.Has.Has(mqtt.PropUserProperty); {
		key, value, ok := mqtt.NextUser(&raw)
		if !ok {
			break
		}
		list = append(list, fmt.Sprintf("user=%s:%s", key, value))
	}
	if p.Has.Has(mqtt.PropSubscriptionIdentifier) {
		for _, id := range p.SubscriptionIDs {
			list = append(list, fmt.Sprintf("sub-id=%d", id))
		}
	}
	if rest != 0 {
		list = append(list, fmt.Sprintf("other-properties=%#x", uint64(rest)))
	}
	return list
}

// oneWord writes a text as one word of a script.
func oneWord(text string) string { return strings.ReplaceAll(text, " ", "_") }

// Describe returns a packet that a server sends as words: "publish t/1 qos1 id=3 payload=hello". The packet must
// obey the standard.
func Describe(packet []byte, v mqtt.Version) (string, error) {
	list, fault := describe(packet, v)
	if fault != nil {
		return "", fmt.Errorf("the server sent % x: %w", packet[:min(len(packet), 60)], fault.Err())
	}
	return strings.Join(list, " "), nil
}

func describe(packet []byte, v mqtt.Version) ([]string, *mqtt.Fault) {
	switch kind := mqtt.TypeOf(packet); kind {
	case mqtt.CONNACK:
		return describeConnack(packet, v)
	case mqtt.PUBLISH:
		return describePublish(packet, v)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		var a mqtt.Ack
		fault := mqtt.ParseAck(packet, v, &a)
		list := []string{strings.ToLower(kind.String()), strconv.Itoa(int(a.PacketID))}
		if a.Reason != mqtt.Success {
			list = append(list, reasonWord(a.Reason))
		}
		return append(list, describeProperties(&a.Props)...), fault
	case mqtt.SUBACK:
		var a mqtt.Suback
		fault := mqtt.ParseSuback(packet, v, &a)
		return describeCodes("suback", a.PacketID, a.Codes, &a.Props), fault
	case mqtt.UNSUBACK:
		var a mqtt.Unsuback
		fault := mqtt.ParseUnsuback(packet, v, &a)
		return describeCodes("unsuback", a.PacketID, a.Codes, &a.Props), fault
	case mqtt.PINGRESP:
		return []string{"pingresp"}, mqtt.ParsePingresp(packet, v)
	case mqtt.AUTH:
		var a mqtt.Auth
		fault := mqtt.ParseServerAuth(packet, v, &a)
		return append([]string{"auth", reasonWord(a.Reason)}, describeProperties(&a.Props)...), fault
	}
	var d mqtt.Disconnect
	fault := mqtt.ParseServerDisconnect(packet, v, &d)
	return append([]string{"disconnect", reasonWord(d.Reason)}, describeProperties(&d.Props)...), fault
}

func describeConnack(packet []byte, v mqtt.Version) ([]string, *mqtt.Fault) {
	var c mqtt.Connack
	fault := mqtt.ParseConnack(packet, v, &c)
	list := []string{"connack", reasonWord(c.Reason)}
	if c.SessionPresent {
		list = append(list, "session-present")
	}
	return append(list, describeProperties(&c.Props)...), fault
}

func describePublish(packet []byte, v mqtt.Version) ([]string, *mqtt.Fault) {
	var p mqtt.Publish
	fault := mqtt.ParseServerPublish(packet, v, &p)
	list := []string{"publish", string(p.Topic)}
	if p.QoS > 0 {
		list = append(list, fmt.Sprintf("qos%d", p.QoS), fmt.Sprintf("id=%d", p.PacketID))
	}
	if p.Dup {
		list = append(list, "dup")
	}
	if p.Retain {
		list = append(list, "retain")
	}
	list = append(list, describeProperties(&p.Props)...)
	if len(p.Payload) > 0 {
		list = append(list, "payload="+shorten(string(p.Payload)))
	}
	return list, fault
}

// shorten writes a long run of one byte as "123*x".
func shorten(s string) string {
	if len(s) > 20 && strings.Count(s, s[:1]) == len(s) {
		return fmt.Sprintf("%d*%s", len(s), s[:1])
	}
	return s
}

func describeCodes(kind string, id uint16, codes []byte, p *mqtt.Properties) []string {
	list := []string{kind, strconv.Itoa(int(id))}
	for _, code := range codes {
		if kind == "suback" && code <= 2 {
			list = append(list, fmt.Sprintf("granted%d", code))
		} else {
			list = append(list, reasonWord(mqtt.ReasonCode(code)))
		}
	}
	return append(list, describeProperties(p)...)
}

// reasonWord returns the standard's name of a reason code as one word.
func reasonWord(r mqtt.ReasonCode) string {
	return strings.ReplaceAll(strings.ToLower(r.String()), " ", "-")
}

// describeRequest returns what the core wants to know as words.
func describeRequest(a *abi.AuthRequest) string {
	list := []string{"authenticate", fmt.Sprintf("stage%d", a.Stage)}
	if int(a.Stage) < len(stageNames) {
		list[1] = stageNames[a.Stage]
	}
	list = appendText(list, "client-id", a.ClientID, a.ClientID != "")
	list = appendText(list, "user", a.User, a.HasUser)
	list = appendText(list, "password", string(a.Password), a.HasPassword)
	list = appendText(list, "method", a.Method, a.Method != "")
	list = appendText(list, "data", string(a.Data), len(a.Data) > 0)
	return strings.Join(list, " ")
}

var stageNames = [...]string{abi.AuthConnect: "connect", abi.AuthContinue: "continue", abi.AuthReconnect: "reconnect"}

func appendText(list []string, name, value string, ok bool) []string {
	if ok {
		list = append(list, name+"="+oneWord(value))
	}
	return list
}

func appendNumber(list []string, name string, n uint32) []string {
	return appendText(list, name, strconv.FormatUint(uint64(n), 10), n != 0)
}

func appendFlag(list []string, name string, set bool) []string {
	if set {
		list = append(list, name)
	}
	return list
}

// describeAnswer returns an answer as words, first its head, then its records.
func describeAnswer(a *Answer) (items []string, err error) {
	head := []string{"answer", strconv.Itoa(int(a.Number)), fmt.Sprintf("count=%d", a.Count)}
	items = []string{strings.Join(appendFlag(head, "more", a.Cursor != 0), " ")}
	switch a.Kind {
	case abi.AskSessions, abi.AskSession:
		list, err := a.Sessions()
		for i := range list {
			items = append(items, describeSession(&list[i]))
		}
		return items, err
	case abi.AskSubscriptions:
		list, err := a.Subscriptions()
		for i := range list {
			items = append(items, describeSubscription(&list[i]))
		}
		return items, err
	case abi.AskRetained:
		list, err := a.Retained()
		for _, m := range list {
			words := appendNumber([]string{"retained", m.Topic, fmt.Sprintf("qos%d", m.QoS)}, "size", m.Size)
			items = append(items, strings.Join(appendNumber(words, "expires-in", m.ExpiresIn), " "))
		}
		return items, err
	}
	if len(a.Records) > 0 {
		err = fmt.Errorf("an answer of kind %d has records", a.Kind)
	}
	return items, err
}

func describeSession(s *abi.SessionRecord) string {
	list := []string{"session", s.ClientID, fmt.Sprintf("v%d", s.Version)}
	list = appendFlag(list, "connected", s.Conn != 0)
	list = appendFlag(list, "will", s.Will)
	list = appendText(list, "user", s.User, s.User != "")
	list = appendText(list, "identity", s.Identity, s.Identity != "")
	for _, field := range []struct {
		name string
		n    uint32
	}{
		{"expiry", s.Expiry}, {"expires-in", s.ExpiresIn}, {"keep-alive", uint32(s.KeepAlive)}, {"subscriptions", s.Subscriptions},
		{"queued", s.Queued}, {"queued-bytes", s.QueuedBytes}, {"inflight", s.Inflight}, {"received", s.Received},
	} {
		list = appendNumber(list, field.name, field.n)
	}
	return strings.Join(list, " ")
}

func describeSubscription(s *abi.SubscriptionRecord) string {
	list := []string{"subscription", s.ClientID, s.Filter, fmt.Sprintf("qos%d", s.QoS)}
	list = appendFlag(list, "no-local", s.NoLocal)
	list = appendFlag(list, "as-published", s.RetainAsPublished)
	list = appendNumber(list, "retain-handling", uint32(s.RetainHandling))
	return strings.Join(appendNumber(list, "sub-id", s.Identifier), " ")
}
