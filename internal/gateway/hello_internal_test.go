package gateway

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

func TestHelloWaitsForLittle(t *testing.T) {
	long := make([]byte, 70_000)
	packet := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, HasWill: true, Will: mqtt.Will{Topic: []byte("t"), Payload: long[:60_000]}})
	// 1 type, 3 remaining length, 2+4 name, 1 version
	for n := range packet[:11] {
		if _, err := readHello(bytes.NewReader(packet[:n])); !errors.Is(err, io.EOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	h, err := readHello(bytes.NewReader(packet[:11]))
	if err != nil || h.version != mqtt.V5 || len(h.bytes) != 11 {
		t.Errorf("%+v, %v", h, err)
	}
}

// FuzzHello: however a stream is cut, the outcome is the same, and no byte is lost or made up.
func FuzzHello(f *testing.F) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		f.Add(mqtt.AppendConnect(nil, &mqtt.Connect{Version: v, ClientID: []byte("client")}))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte{0x10, 0x80, 0x00, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, err := readHello(bytes.NewReader(stream))
		bytewise, err2 := readHello(iotest.OneByteReader(bytes.NewReader(stream)))
		if (err == nil) != (err2 == nil) || whole.version != bytewise.version {
			t.Errorf("whole: %v, %v; byte by byte: %v, %v", whole.version, err, bytewise.version, err2)
		}
		if !bytes.HasPrefix(stream, whole.bytes) || !bytes.HasPrefix(stream, bytewise.bytes) {
			t.Error("other bytes than those that came")
		}
		if err2 == nil && len(bytewise.bytes) > 5+nameLength+maxName+levelSize {
			t.Errorf("waited for %d bytes", len(bytewise.bytes))
		}
		if err == nil && (whole.version < mqtt.V31 || whole.version > mqtt.V5) {
			t.Errorf("version %d cannot be answered in", whole.version)
		}
	})
}
