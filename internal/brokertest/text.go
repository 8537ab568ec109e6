package brokertest

import (
	"fmt"
	"strconv"
	"strings"

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
			list = append(list, name.word+"="+string(*text))
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
