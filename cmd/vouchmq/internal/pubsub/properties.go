package pubsub

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/eclipse/paho.golang/paho"
)

// Property is one property of an MQTT 5 packet, by the name that mosquitto_pub gives it.
type Property struct {
	Name  string
	Key   string // of a user-property
	Value string
}

// Properties are those of one packet. All but user-property stand in it at most once.
type Properties []Property

// kind is the type of a property's value (MQTT 5, 2.2.2.2).
type kind int

const (
	kindText kind = iota
	kindByte
	kindUint16
	kindUint32
	kindPair
)

var kinds = map[string]kind{
	"authentication-data":          kindText,
	"authentication-method":        kindText,
	"content-type":                 kindText,
	"correlation-data":             kindText,
	"maximum-packet-size":          kindUint32,
	"message-expiry-interval":      kindUint32,
	"payload-format-indicator":     kindByte,
	"receive-maximum":              kindUint16,
	"request-problem-information":  kindByte,
	"request-response-information": kindByte,
	"response-topic":               kindText,
	"session-expiry-interval":      kindUint32,
	"subscription-identifier":      kindUint32,
	"topic-alias":                  kindUint16,
	"topic-alias-maximum":          kindUint16,
	"user-property":                kindPair,
	"will-delay-interval":          kindUint32,
}

// allowed are the properties that a client may set, by packet (MQTT 5, table 2-4); a will's are its own.
var allowed = map[string][]string{
	"connect": {"authentication-data", "authentication-method", "maximum-packet-size", "receive-maximum",
		"request-problem-information", "request-response-information", "session-expiry-interval",
		"topic-alias-maximum", "user-property"},
	"publish": {"content-type", "correlation-data", "message-expiry-interval", "payload-format-indicator",
		"response-topic", "topic-alias", "user-property"},
	"will": {"content-type", "correlation-data", "message-expiry-interval", "payload-format-indicator",
		"response-topic", "will-delay-interval", "user-property"},
	"subscribe":   {"subscription-identifier", "user-property"},
	"unsubscribe": {"user-property"},
	"disconnect":  {"session-expiry-interval", "user-property"},
}

// ParseProperty reads what stands after -D: a packet, the name of a property, and its value, or two for a
// user-property.
func ParseProperty(words []string) (packet string, p Property, err error) {
	if len(words) < 3 {
		return "", p, fmt.Errorf("a property is PACKET NAME VALUE, such as: -D publish content-type text/plain")
	}
	packet, p.Name = words[0], words[1]
	names, ok := allowed[packet]
	if !ok {
		return "", p, fmt.Errorf("unknown packet %q: use connect, publish, will, subscribe, unsubscribe or disconnect", packet)
	}
	if !slices.Contains(names, p.Name) {
		return "", p, fmt.Errorf("%s has no property %q; it has %v", packet, p.Name, names)
	}
	if kinds[p.Name] == kindPair {
		if len(words) != 4 {
			return "", p, fmt.Errorf("user-property wants a name and a value, such as: -D %s user-property colour red", packet)
		}
		p.Key, p.Value = words[2], words[3]
		return packet, p, nil
	}
	p.Value = words[2]
	return packet, p, checkValue(p)
}

func checkValue(p Property) error {
	limit := map[kind]uint64{kindByte: math.MaxUint8, kindUint16: math.MaxUint16, kindUint32: math.MaxUint32}[kinds[p.Name]]
	if limit == 0 {
		return nil
	}
	if n, err := strconv.ParseUint(p.Value, 10, 64); err != nil || n > limit {
		return fmt.Errorf("property %s: %q is not a number from 0 to %d", p.Name, p.Value, limit)
	}
	return nil
}

// Has reports whether there is a property of that name.
func (ps Properties) Has(name string) bool {
	return slices.ContainsFunc(ps, func(p Property) bool { return p.Name == name })
}

// Text is the value of a property, "" if there is none.
func (ps Properties) Text(name string) string {
	for _, p := range ps {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// number is the value of a property, nil if there is none. That it is in range was checked by ParseProperty.
func number[T byte | uint16 | uint32 | int](ps Properties, name string) *T {
	if !ps.Has(name) {
		return nil
	}
	n, _ := strconv.ParseUint(ps.Text(name), 10, 64)
	v := T(n)
	return &v
}

func (ps Properties) bytes(name string) []byte {
	if !ps.Has(name) {
		return nil
	}
	return []byte(ps.Text(name))
}

func (ps Properties) user() (u paho.UserProperties) {
	for _, p := range ps {
		if p.Name == "user-property" {
			u.Add(p.Key, p.Value)
		}
	}
	return u
}

func (ps Properties) connect() *paho.ConnectProperties {
	info := number[byte](ps, "request-problem-information")
	return &paho.ConnectProperties{
		AuthData:              ps.bytes("authentication-data"),
		AuthMethod:            ps.Text("authentication-method"),
		SessionExpiryInterval: number[uint32](ps, "session-expiry-interval"),
		ReceiveMaximum:        number[uint16](ps, "receive-maximum"),
		TopicAliasMaximum:     number[uint16](ps, "topic-alias-maximum"),
		MaximumPacketSize:     number[uint32](ps, "maximum-packet-size"),
		RequestProblemInfo:    info == nil || *info != 0, // 1 if absent (MQTT 5, 3.1.2.11.7)
		RequestResponseInfo:   ps.Text("request-response-information") == "1",
		User:                  ps.user(),
	}
}

func (ps Properties) will() *paho.WillProperties {
	return &paho.WillProperties{
		WillDelayInterval: number[uint32](ps, "will-delay-interval"),
		PayloadFormat:     number[byte](ps, "payload-format-indicator"),
		MessageExpiry:     number[uint32](ps, "message-expiry-interval"),
		ContentType:       ps.Text("content-type"),
		ResponseTopic:     ps.Text("response-topic"),
		CorrelationData:   ps.bytes("correlation-data"),
		User:              ps.user(),
	}
}

func (ps Properties) publish() *paho.PublishProperties {
	return &paho.PublishProperties{
		CorrelationData: ps.bytes("correlation-data"),
		ContentType:     ps.Text("content-type"),
		ResponseTopic:   ps.Text("response-topic"),
		PayloadFormat:   number[byte](ps, "payload-format-indicator"),
		MessageExpiry:   number[uint32](ps, "message-expiry-interval"),
		TopicAlias:      number[uint16](ps, "topic-alias"),
		User:            ps.user(),
	}
}

// received are the properties of a PUBLISH that came.
func received(p *paho.PublishProperties) (ps Properties) {
	if p == nil {
		return nil
	}
	ps = ps.text("content-type", p.ContentType).text("response-topic", p.ResponseTopic)
	ps = ps.text("correlation-data", string(p.CorrelationData))
	if p.PayloadFormat != nil {
		ps = ps.text("payload-format-indicator", strconv.Itoa(int(*p.PayloadFormat)))
	}
	if p.MessageExpiry != nil {
		ps = ps.text("message-expiry-interval", strconv.FormatUint(uint64(*p.MessageExpiry), 10))
	}
	if p.SubscriptionIdentifier != nil {
		ps = ps.text("subscription-identifier", strconv.Itoa(*p.SubscriptionIdentifier))
	}
	for _, u := range p.User {
		ps = append(ps, Property{Name: "user-property", Key: u.Key, Value: u.Value})
	}
	return ps
}

// text appends a property, unless its value is empty.
func (ps Properties) text(name, value string) Properties {
	if value == "" {
		return ps
	}
	return append(ps, Property{Name: name, Value: value})
}
