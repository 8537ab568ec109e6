package brokertest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// words are the rest of a line of a script. A word that nobody takes is an error, see end.
type words struct {
	list []string
	err  error
}

func splitWords(line string) *words { return &words{list: strings.Fields(line)} }

func (w *words) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

// next takes the first word.
func (w *words) next(what string) string {
	if len(w.list) == 0 {
		w.fail("%s is missing", what)
		return ""
	}
	word := w.list[0]
	w.list = w.list[1:]
	return word
}

// flag takes a word if it is there.
func (w *words) flag(name string) bool {
	for i, word := range w.list {
		if word == name {
			w.list = append(w.list[:i:i], w.list[i+1:]...)
			return true
		}
	}
	return false
}

// value takes a word of the form name=value if it is there.
func (w *words) value(name string) (value string, ok bool) {
	for i, word := range w.list {
		if v, found := strings.CutPrefix(word, name+"="); found {
			w.list = append(w.list[:i:i], w.list[i+1:]...)
			return v, true
		}
	}
	return "", false
}

// number takes a word of the form name=number if it is there.
func (w *words) number(name string) (n uint32, ok bool) {
	v, ok := w.value(name)
	if ok {
		n = w.parse(name, v)
	}
	return n, ok
}

func (w *words) parse(name, text string) uint32 {
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		w.fail("%s: %q is not a number", name, text)
	}
	return uint32(n)
}

// end returns the first error, or one that names what nobody took.
func (w *words) end() error {
	if w.err == nil && len(w.list) > 0 {
		w.fail("unknown words %q", w.list)
	}
	return w.err
}

// payload reads a payload: text, or "123*x" for 123 times x.
func (w *words) payload(text string) []byte {
	if count, unit, ok := strings.Cut(text, "*"); ok {
		if n, err := strconv.Atoi(count); err == nil {
			return []byte(strings.Repeat(unit, n))
		}
	}
	return []byte(text)
}

// properties takes the words that stand for properties of a packet, each with its prefix.
func (w *words) properties(prefix string, p *mqtt.Properties) {
	for _, name := range propertyNames {
		if name.forward || prefix == "" {
			if v, ok := w.value(prefix + name.word); ok {
				w.property(name.id, v, p)
			}
		}
	}
	for v, ok := w.value(prefix + "user"); ok; v, ok = w.value(prefix + "user") {
		key, value, _ := strings.Cut(v, ":")
		p.User = mqtt.AppendUser(p.User, []byte(key), []byte(value))
		p.Has = p.Has.With(mqtt.PropUserProperty)
	}
}

func (w *words) property(id mqtt.PropertyID, v string, p *mqtt.Properties) {
	p.Has = p.Has.With(id)
	if text := textField(id, p); text != nil {
		*text = []byte(v)
		return
	}
	setNumber(id, w.parse("property", v), p)
}

// buildPacket makes the packet that a line of a script describes: "publish t/1 qos1 id=7 payload=x".
func buildPacket(version mqtt.Version, w *words) ([]byte, error) {
	kind := w.next("the packet")
	build, ok := builders[kind]
	if !ok {
		return nil, fmt.Errorf("unknown packet %q", kind)
	}
	packet := build(version, w)
	if err := w.end(); err != nil {
		return nil, err
	}
	if len(packet) == 0 {
		return nil, errors.New("the packet cannot be written")
	}
	return packet, nil
}

var builders = map[string]func(mqtt.Version, *words) []byte{
	"publish":     buildPublish,
	"subscribe":   buildSubscribe,
	"unsubscribe": buildUnsubscribe,
	"puback":      ackBuilder(mqtt.PUBACK),
	"pubrec":      ackBuilder(mqtt.PUBREC),
	"pubrel":      ackBuilder(mqtt.PUBREL),
	"pubcomp":     ackBuilder(mqtt.PUBCOMP),
	"disconnect":  buildDisconnect,
	"ping":        func(mqtt.Version, *words) []byte { return mqtt.AppendPingreq(nil) },
	"auth":        buildAuth,
	"raw":         buildRaw,
}

// parseVersion reads "v3.1", "v3.1.1" or "v5".
func parseVersion(word string) (mqtt.Version, error) {
	switch word {
	case "v3.1":
		return mqtt.V31, nil
	case "v3.1.1":
		return mqtt.V311, nil
	case "v5":
		return mqtt.V5, nil
	}
	return 0, fmt.Errorf("unknown version %q", word)
}

// buildConnect makes a CONNECT of the words behind "connect".
func buildConnect(version mqtt.Version, clientID string, w *words) ([]byte, error) {
	c := mqtt.Connect{Version: version, CleanStart: w.flag("clean-start"), ClientID: []byte(clientID)}
	if id, ok := w.value("client-id"); ok {
		c.ClientID = []byte(id)
	}
	if n, ok := w.number("keep-alive"); ok {
		c.KeepAlive = uint16(n)
	}
	if name, ok := w.value("username"); ok {
		c.HasUsername, c.Username = true, []byte(name)
	}
	if password, ok := w.value("password"); ok {
		c.HasPassword, c.Password = true, []byte(password)
	}
	if topic, ok := w.value("will"); ok {
		c.HasWill = true
		w.will(&c.Will, topic)
	}
	w.properties("", &c.Props)
	if err := w.end(); err != nil {
		return nil, err
	}
	return mqtt.AppendConnect(nil, &c), nil
}

// will takes the words that describe a will.
func (w *words) will(will *mqtt.Will, topic string) {
	will.Topic = []byte(topic)
	payload, _ := w.value("will-payload")
	will.Payload = w.payload(payload)
	n, _ := w.number("will-qos")
	will.QoS, will.Retain = byte(n), w.flag("will-retain")
	if delay, ok := w.number("will-delay"); ok {
		will.Props.Has = will.Props.Has.With(mqtt.PropWillDelayInterval)
		will.Props.WillDelayInterval = delay
	}
	w.properties("will-", &will.Props)
}

// qos takes "qos0" to "qos2".
func (w *words) qos() byte {
	for q, word := range []string{"qos0", "qos1", "qos2"} {
		if w.flag(word) {
			return byte(q)
		}
	}
	return 0
}

func buildPublish(v mqtt.Version, w *words) []byte {
	p := mqtt.Publish{QoS: w.qos(), Retain: w.flag("retain"), Dup: w.flag("dup")}
	if !w.flag("no-topic") {
		p.Topic = []byte(w.next("the topic"))
	}
	if id, ok := w.number("id"); ok {
		p.PacketID = uint16(id)
	}
	payload, _ := w.value("payload")
	p.Payload = w.payload(payload)
	w.properties("", &p.Props)
	return mqtt.AppendPublish(nil, v, &p)
}

func buildSubscribe(v mqtt.Version, w *words) []byte {
	id := uint16(w.parse("packet id", w.next("the packet id")))
	var props mqtt.Properties
	if n, ok := w.number("sub-id"); ok {
		props.Has = props.Has.With(mqtt.PropSubscriptionIdentifier)
		props.SubscriptionIDs = []uint32{n}
	}
	var filters []mqtt.Filter
	for len(w.list) > 0 && w.err == nil {
		filters = append(filters, w.filter())
	}
	return mqtt.AppendSubscribe(nil, v, id, &props, filters)
}

// filter takes a filter and the options behind it.
func (w *words) filter() (f mqtt.Filter) {
	f.Topic = []byte(w.next("the filter"))
	for len(w.list) > 0 {
		switch w.list[0] {
		case "qos0", "qos1", "qos2":
			f.QoS = w.list[0][3] - '0'
		case "no-local":
			f.NoLocal = true
		case "as-published":
			f.RetainAsPublished = true
		case "retained-if-new":
			f.RetainHandling = 1
		case "no-retained":
			f.RetainHandling = 2
		default:
			return f
		}
		w.list = w.list[1:]
	}
	return f
}

func buildUnsubscribe(v mqtt.Version, w *words) []byte {
	id := uint16(w.parse("packet id", w.next("the packet id")))
	var filters [][]byte
	for len(w.list) > 0 {
		filters = append(filters, []byte(w.next("the filter")))
	}
	return mqtt.AppendUnsubscribe(nil, v, id, nil, filters)
}

func ackBuilder(kind mqtt.PacketType) func(mqtt.Version, *words) []byte {
	return func(v mqtt.Version, w *words) []byte {
		id := uint16(w.parse("packet id", w.next("the packet id")))
		return mqtt.AppendAck(nil, v, kind, id, w.reason(), nil)
	}
}

// reason takes a reason code, if there is one.
func (w *words) reason() mqtt.ReasonCode {
	if len(w.list) == 0 || strings.Contains(w.list[0], "=") {
		return mqtt.Success
	}
	return mqtt.ReasonCode(w.parse("reason code", w.next("the reason code")))
}

func buildDisconnect(v mqtt.Version, w *words) []byte {
	var props mqtt.Properties
	reason := w.reason()
	w.properties("", &props)
	return mqtt.AppendDisconnect(nil, v, reason, &props)
}

func buildAuth(_ mqtt.Version, w *words) []byte {
	var props mqtt.Properties
	reason := w.reason()
	w.properties("", &props)
	return mqtt.AppendAuth(nil, reason, &props)
}

func buildRaw(_ mqtt.Version, w *words) []byte {
	b, err := hex.DecodeString(strings.Join(w.list, ""))
	if err != nil {
		w.fail("%v", err)
	}
	w.list = nil
	return b
}
