// Package format prints received messages in the way that a person asks for with `vouchmq sub -F`, whose letters are
// those of mosquitto_sub.
//
//	%t topic          %p payload            %x %X payload in hexadecimal
//	%q QoS            %r retain flag, 0/1   %l length of the payload in bytes
//	%m packet id      %d duplicate flag     %j all of it as JSON, the payload as text
//	%I time received, ISO 8601              %U time received, seconds of the Unix clock
//	%E %C %R %D %A %S   message-expiry-interval, content-type, response-topic, correlation-data,
//	                    payload-format-indicator and subscription-identifier, of MQTT 5
//	%P user properties as name:value        %% a percent sign
//	\n \r \t \0 \e \a \\  control characters, and a backslash
package format

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
)

// Format is a format that has been read.
type Format []piece

// piece appends its part of a message to b.
type piece func(b []byte, m *pubsub.Message, now time.Time) []byte

var letters = map[byte]piece{
	't': func(b []byte, m *pubsub.Message, _ time.Time) []byte { return append(b, m.Topic...) },
	'p': func(b []byte, m *pubsub.Message, _ time.Time) []byte { return append(b, m.Payload...) },
	'x': func(b []byte, m *pubsub.Message, _ time.Time) []byte { return fmt.Appendf(b, "%x", m.Payload) },
	'X': func(b []byte, m *pubsub.Message, _ time.Time) []byte { return fmt.Appendf(b, "%X", m.Payload) },
	'q': func(b []byte, m *pubsub.Message, _ time.Time) []byte { return strconv.AppendInt(b, int64(m.QoS), 10) },
	'r': func(b []byte, m *pubsub.Message, _ time.Time) []byte { return appendFlag(b, m.Retain) },
	'd': func(b []byte, m *pubsub.Message, _ time.Time) []byte { return appendFlag(b, m.Duplicate) },
	'l': func(b []byte, m *pubsub.Message, _ time.Time) []byte {
		return strconv.AppendInt(b, int64(len(m.Payload)), 10)
	},
	'm': func(b []byte, m *pubsub.Message, _ time.Time) []byte {
		return strconv.AppendInt(b, int64(m.PacketID), 10)
	},
	'I': func(b []byte, _ *pubsub.Message, now time.Time) []byte { return now.AppendFormat(b, iso8601) },
	'U': func(b []byte, _ *pubsub.Message, now time.Time) []byte {
		return fmt.Appendf(b, "%d.%09d", now.Unix(), now.Nanosecond())
	},
	'E': property("message-expiry-interval"),
	'C': property("content-type"),
	'R': property("response-topic"),
	'D': property("correlation-data"),
	'A': property("payload-format-indicator"),
	'S': property("subscription-identifier"),
	'P': appendUserProperties,
	'j': appendJSON,
	'%': literal('%'),
}

const iso8601 = "2006-01-02T15:04:05-0700"

var escapes = map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', '0': 0, 'e': 0x1b, 'a': 7, '\\': '\\'}

// Parse reads a format. It names the letter that it does not know.
func Parse(s string) (Format, error) {
	var f Format
	for i := 0; i < len(s); i++ {
		if s[i] != '%' && s[i] != '\\' {
			f = append(f, literal(s[i]))
			continue
		}
		if i+1 == len(s) {
			return nil, fmt.Errorf("the format ends in %q, which wants a letter after it", s[i])
		}
		i++
		p, err := special(s[i-1], s[i])
		if err != nil {
			return nil, err
		}
		f = append(f, p)
	}
	if len(f) == 0 {
		return nil, errors.New("the format is empty")
	}
	return f, nil
}

func special(mark, letter byte) (piece, error) {
	if mark == '\\' {
		if c, ok := escapes[letter]; ok {
			return literal(c), nil
		}
	} else if p, ok := letters[letter]; ok {
		return p, nil
	}
	return nil, fmt.Errorf("the format has no %c%c", mark, letter)
}

// Append appends the message, received now, to b.
func (f Format) Append(b []byte, m *pubsub.Message, now time.Time) []byte {
	for _, p := range f {
		b = p(b, m, now)
	}
	return b
}

func literal(c byte) piece {
	return func(b []byte, _ *pubsub.Message, _ time.Time) []byte { return append(b, c) }
}

func property(name string) piece {
	return func(b []byte, m *pubsub.Message, _ time.Time) []byte { return append(b, m.Properties.Text(name)...) }
}

func appendFlag(b []byte, set bool) []byte {
	if set {
		return append(b, '1')
	}
	return append(b, '0')
}

func appendUserProperties(b []byte, m *pubsub.Message, _ time.Time) []byte {
	var all []string
	for _, p := range m.Properties {
		if p.Name == "user-property" {
			all = append(all, p.Key+":"+p.Value)
		}
	}
	return append(b, strings.Join(all, " ")...)
}

func appendJSON(b []byte, m *pubsub.Message, now time.Time) []byte {
	out, err := json.Marshal(struct {
		Time       string            `json:"tst"`
		Topic      string            `json:"topic"`
		QoS        byte              `json:"qos"`
		Retain     byte              `json:"retain"`
		Length     int               `json:"payloadlen"`
		PacketID   uint16            `json:"mid,omitempty"`
		Properties map[string]string `json:"properties,omitempty"`
		Payload    string            `json:"payload"`
	}{
		now.Format(iso8601), m.Topic, m.QoS, appendFlag(nil, m.Retain)[0] - '0', len(m.Payload), m.PacketID,
		propertyMap(m.Properties), string(m.Payload),
	})
	if err != nil { // of strings and numbers there is none
		return b
	}
	return append(b, out...)
}

func propertyMap(ps pubsub.Properties) map[string]string {
	all := map[string]string{}
	for _, p := range ps {
		if p.Name == "user-property" {
			all["user-property "+p.Key] = p.Value
			continue
		}
		all[p.Name] = p.Value
	}
	return all
}
