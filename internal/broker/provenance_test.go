package broker

import (
	"bytes"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// FuzzMark gives arbitrary properties to mark. What comes out must be the user properties that went in, without those
// whose name is reserved, and the stamp; nothing else may change.
func FuzzMark(f *testing.F) {
	user := mqtt.AppendUser(nil, []byte("VouchMQ-publisher-identity"), []byte("boss"))
	user = mqtt.AppendUser(user, []byte("vouchmq"), []byte("kept"))
	p := mqtt.Properties{User: user, ContentType: []byte("text")}
	p.Has = p.Has.With(mqtt.PropUserProperty).With(mqtt.PropContentType)
	f.Add(mqtt.AppendProperties(nil, &p), true)
	f.Add([]byte{0}, false)
	stamp := mqtt.AppendUser(nil, []byte(abi.ProvenanceIdentity), []byte("sensor"))
	c := New()
	f.Fuzz(func(t *testing.T, b []byte, stamped bool) {
		var props, room mqtt.Properties
		if _, fault := mqtt.ParseProperties(b, mqtt.PublishProperties, &props); fault != nil {
			return
		}
		want := userTexts(&props, func(name string) bool { return !strings.HasPrefix(asciiLower(name), abi.ProvenancePrefix) })
		var with []byte
		if stamped {
			with = stamp
			want = append(want, abi.ProvenanceIdentity, "sensor")
		}
		has := props.Has.Without(mqtt.PropUserProperty)
		marked := c.mark(&props, with, &room)
		if got := userTexts(marked, func(string) bool { return true }); strings.Join(got, "\x00") != strings.Join(want, "\x00") {
			t.Errorf("%q, want %q", got, want)
		}
		if marked.Has.Without(mqtt.PropUserProperty) != has || marked.Has.Has(mqtt.PropUserProperty) != (len(want) > 0) {
			t.Errorf("properties %x, from %x", marked.Has, has)
		}
		var again mqtt.Properties
		if _, fault := mqtt.ParseProperties(mqtt.AppendProperties(nil, marked), mqtt.PublishProperties, &again); fault != nil {
			t.Errorf("what was marked cannot be read: %v", fault)
		}
	})
}

// userTexts returns names and values of the user properties whose names are wanted.
func userTexts(props *mqtt.Properties, wanted func(name string) bool) (list []string) {
	if !props.Has.Has(mqtt.PropUserProperty) {
		return nil
	}
	for raw := props.User; ; {
		name, value, ok := mqtt.NextUser(&raw)
		if !ok {
			return list
		}
		if wanted(string(name)) {
			list = append(list, string(name), string(value))
		}
	}
}

func asciiLower(s string) string {
	return string(bytes.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, []byte(s)))
}

// TestMarkMakesNoGarbage: stamping is on the way of a PUBLISH.
func TestMarkMakesNoGarbage(t *testing.T) {
	c := New()
	var props, room mqtt.Properties
	stamp := mqtt.AppendUser(nil, []byte(abi.ProvenanceIdentity), []byte("sensor"))
	user := mqtt.AppendUser(nil, []byte("Vouchmq-x"), []byte("forged"))
	n := testing.AllocsPerRun(100, func() {
		props.Reset()
		props.Has, props.User = props.Has.With(mqtt.PropUserProperty), user
		c.mark(&props, stamp, &room)
		c.mark(nil, stamp, &room)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
