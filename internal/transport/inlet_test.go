package transport

import (
	"crypto/tls"
	"net"
	"testing"
)

// byteByByte writes each byte apart, so that who reads waits in the middle of everything.
type byteByByte struct{ net.Conn }

func (c byteByByte) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// A record of TLS, like a packet, may come in any number of pieces: waiting for the next loses nothing.
func TestRecordsInPieces(t *testing.T) {
	for _, kind := range []string{"plain", "tls"} {
		t.Run(kind, func(t *testing.T) {
			b := newBed(t, Limits{}, nil)
			config := ListenConfig{}
			if kind == "tls" {
				config.Handshake = withTLS(t)
			}
			b.listen(t, config)
			raw, err := net.Dial("tcp", b.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			c := net.Conn(byteByByte{raw})
			if kind == "tls" {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			}
			for range 3 {
				write(t, c, []byte{0xC0, 0, 0xC0, 0})
				expect(t, c, 4)
			}
		})
	}
}
