package transport

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// recordStream is a connection as TLS makes one: each Read gives one record at most. Without more it says last.
type recordStream struct {
	net.Conn
	records [][]byte
	last    error
	reads   int
}

func (s *recordStream) Read(b []byte) (int, error) {
	s.reads++
	if len(s.records) == 0 {
		return 0, s.last
	}
	n := copy(b, s.records[0])
	if s.records[0] = s.records[0][n:]; len(s.records[0]) == 0 {
		s.records = s.records[1:]
	}
	return n, nil
}

// records are count records, all different.
func recordsOf(count int) (records [][]byte) {
	for i := range count {
		records = append(records, bytes.Repeat([]byte{byte(i)}, recordSize))
	}
	return records
}

// What has come is read as a whole, whatever its records are, but no more than fits a buffer of a busy connection.
func TestReadsOnOverRecords(t *testing.T) {
	for _, last := range []error{errNothing, io.EOF} {
		stream := &recordStream{records: recordsOf(7), last: last}
		c := &conn{stream: stream, inlet: inlet{patient: true}}
		want := bytes.Join(recordsOf(7), nil)
		for _, x := range []struct {
			size int
			err  error
		}{{runBuffer, nil}, {7*recordSize - runBuffer, last}} {
			in, n, err := c.readAll(nil, smallBuffer)
			if n != x.size || err != x.err || !bytes.Equal(in.b, want[:x.size]) {
				t.Fatalf("%d bytes and %v, want %d and %v", n, err, x.size, x.err)
			}
			want = want[x.size:]
			putBuffer(in)
		}
	}
}

// What is left of a packet is kept, and what comes is added to it.
func TestReadsOnBehindWhatIsLeft(t *testing.T) {
	c := &conn{stream: &recordStream{records: recordsOf(2), last: errNothing}, inlet: inlet{patient: true}}
	in := getBuffer(smallBuffer)
	in.b = append(in.b, "rest"...)
	in, n, err := c.readAll(in, smallBuffer)
	if n != 2*recordSize || err != errNothing || !bytes.Equal(in.b, append([]byte("rest"), bytes.Join(recordsOf(2), nil)...)) {
		t.Fatalf("%d bytes and %v", n, err)
	}
}

// A connection that would wait for more, or has rates, is read once.
func TestReadsOnce(t *testing.T) {
	for name, c := range map[string]*conn{
		"waits": {},
		"paced": {inlet: inlet{patient: true}, pace: &pace{most: smallBuffer}},
	} {
		stream := &recordStream{records: recordsOf(2), last: errNothing}
		c.stream = stream
		if _, n, err := c.readAll(nil, smallBuffer); n != smallBuffer || err != nil || stream.reads != 1 {
			t.Errorf("%s: %d reads, %d bytes, %v", name, stream.reads, n, err)
		}
	}
}

// Who has said nothing yet can announce no packet that a CONNECT with the longest strings would not need, whether it must log in or not;
// a larger one may come right behind CONNECT.
func TestFirstPacketIsBounded(t *testing.T) {
	open := newBed(t, Limits{}, nil)
	locked, guard := guarded(t, ListenConfig{}, Limits{})
	for name, b := range map[string]*bed{"no login": open, "login": locked} {
		t.Run(name, func(t *testing.T) {
			c := b.dial(t)
			write(t, c, appendLength([]byte{0x10}, mostUnknown))
			if got := expectEnd(t, c); !bytes.HasSuffix(got, []byte{byte(mqtt.PacketTooLarge)}) {
				t.Fatalf("got % x for a first packet of more than %d bytes", got, mostUnknown)
			}
		})
	}
	t.Run("behind the first", func(t *testing.T) {
		sub, pub := open.subscriber(t), open.dial(t)
		large := append(appendLength([]byte{0x30}, 2*mostUnknown), make([]byte, 2*mostUnknown)...)
		write(t, pub, append([]byte{0xC0, 0}, large...))
		expect(t, pub, 2)
		expect(t, sub, len(large))
	})
	t.Run("behind the login", func(t *testing.T) {
		c := locked.dial(t)
		sent := append(bytes.Clone(connect), append(appendLength([]byte{0x30}, 2*mostUnknown), make([]byte, 2*mostUnknown)...)...)
		go c.Write(append(sent, 0xC0, 0)) // ends with c
		testkit.Await(t, "the request", func() bool { return guard.count() == 1 })
		guard.answers <- mqtt.Success
		expect(t, c, 2)
		if got := expect(t, c, 2); got[0] != 0xD0 {
			t.Errorf("got % x, not the answer to what came behind the large packet", got)
		}
	})
}
