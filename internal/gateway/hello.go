package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// hello is what a client has sent first.
type hello struct {
	bytes   []byte       // up to the protocol version of CONNECT, and what came with it
	version mqtt.Version // in which it can be answered
}

// helloBuffer holds a CONNECT of common size, so that it goes on in one piece.
const helloBuffer = 1024

// errNotMQTT says that a client speaks something else. Nobody can be told in any version.
var errNotMQTT = errors.New("client does not speak MQTT")

// readHello reads until the version is known: at most 14 bytes are waited for, however long the CONNECT is.
func readHello(r io.Reader) (hello, error) {
	h := hello{bytes: make([]byte, 0, helloBuffer)}
	for {
		n, err := r.Read(h.bytes[len(h.bytes):cap(h.bytes)])
		h.bytes = h.bytes[:len(h.bytes)+n]
		version, known, malformed := versionOf(h.bytes)
		if malformed != nil {
			return h, malformed
		}
		if known {
			h.version = version
			return h, nil
		}
		if err != nil {
			return h, fmt.Errorf("client ended before its CONNECT: %w", err)
		}
	}
}

// Sizes of a CONNECT before its flags (MQTT 5, 3.1.2.1 and 3.1.2.2): length and text of the protocol name, version.
const (
	nameLength = 2
	maxName    = 6 // MQIsdp
	levelSize  = 1
)

// versionOf looks for the version in the beginning of a stream. known is false as long as that is too short.
func versionOf(b []byte) (v mqtt.Version, known bool, err error) {
	if len(b) == 0 {
		return 0, false, nil
	}
	if mqtt.TypeOf(b) != mqtt.CONNECT || b[0] == tlsHandshake {
		return 0, false, fmt.Errorf("%w: its first byte is 0x%02x%s", errNotMQTT, b[0], looksLike(b[0]))
	}
	size, ok, fault := mqtt.FrameSize(b)
	if fault != nil {
		return 0, false, fmt.Errorf("%w: %w", errNotMQTT, fault.Err())
	}
	if !ok {
		return 0, false, nil
	}
	body := b[headerSize(b):]
	remaining := size - headerSize(b)
	if need := min(nameLength, remaining); len(body) < need {
		return 0, false, nil
	}
	need := nameLength + levelSize
	if remaining >= nameLength {
		need += int(min(binary.BigEndian.Uint16(body), maxName))
	}
	if need = min(need, remaining); len(body) < need {
		return 0, false, nil
	}
	return answerable(body[:need])
}

// headerSize is the size of the fixed header of a stream that has all of it.
func headerSize(b []byte) int {
	n := 2
	for b[n-1] >= 0x80 {
		n++
	}
	return n
}

// answerable asks the parser about a CONNECT that ends after its version. It is refused, and the version known.
func answerable(head []byte) (mqtt.Version, bool, error) {
	var c mqtt.Connect
	frame := append([]byte{byte(mqtt.CONNECT) << 4, byte(len(head))}, head...)
	fault := mqtt.ParseConnect(frame, &c)
	if c.Version == 0 {
		return 0, false, fmt.Errorf("%w: %w", errNotMQTT, fault.Err())
	}
	return c.Version, true, nil
}

// tlsHandshake begins a TLS connection (RFC 8446, 5.1). As MQTT it would be a CONNECT with flags that none may have.
const tlsHandshake = 0x16

// looksLike says what is mistaken for MQTT most often.
func looksLike(first byte) string {
	switch {
	case first == tlsHandshake:
		return ": TLS; this listener takes plain MQTT, and does the TLS itself"
	case first >= 'A' && first <= 'Z':
		return ": HTTP or WebSocket; this listener takes plain MQTT over TCP"
	}
	return ""
}
