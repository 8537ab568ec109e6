package transport

import (
	"bytes"
	"io"
	"net"
	"testing"
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
