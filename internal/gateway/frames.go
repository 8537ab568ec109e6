package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Sizes of what a connection keeps, in bytes.
const (
	wireBuffer = 16 << 10
	keptFrame  = 64 << 10 // a longer buffer is for one packet only
	maxConnect = 1 << 20  // all that is longer has a will as a broker of this project takes none
)

// errTooLarge says that a packet is longer than its receiver takes.
var errTooLarge = errors.New("packet is larger than the broker takes")

// frames cuts a stream into packets.
type frames struct {
	r    *bufio.Reader
	buf  []byte
	most int // bytes of the largest packet that is taken
}

func newFrames(r io.Reader, most int) *frames {
	return &frames{r: bufio.NewReaderSize(r, wireBuffer), most: most}
}

// next returns the next packet, whole. It is valid until the call after. io.EOF says that the stream has ended between
// two packets.
func (f *frames) next() ([]byte, error) {
	size, err := f.size()
	switch {
	case err != nil:
		return nil, err
	case size > f.most:
		return nil, errTooLarge
	case size > cap(f.buf) || cap(f.buf) > keptFrame && size <= keptFrame:
		f.buf = make([]byte, size)
	}
	f.buf = f.buf[:size]
	_, err = io.ReadFull(f.r, f.buf)
	return f.buf, err
}

// size looks at the fixed header.
func (f *frames) size() (int, error) {
	for n := 2; ; n++ {
		head, err := f.r.Peek(n)
		if err != nil {
			if len(head) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if size, ok, fault := mqtt.FrameSize(head); ok || fault != nil {
			return size, fault.Err()
		}
	}
}

// wire writes whole packets to one end. Several goroutines may.
type wire struct {
	conn net.Conn
	mu   sync.Mutex
	w    *bufio.Writer
	sent int64
}

func newWire(conn net.Conn) *wire {
	return &wire{conn: conn, w: bufio.NewWriterSize(conn, wireBuffer)}
}

// write keeps a packet until flush.
func (w *wire) write(packet []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent += int64(len(packet))
	_, err := w.w.Write(packet)
	return err
}

func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Flush()
}

func (w *wire) send(packet []byte) error {
	if err := w.write(packet); err != nil {
		return err
	}
	return w.flush()
}

// end sends what is kept, and tells the other end that nothing more comes.
func (w *wire) end() {
	_ = w.flush()
	endWriting(w.conn)
}

// patient is a stream that lets go what has gathered for w before it waits for more.
type patient struct {
	io.Reader
	w *wire
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.w.flush(); err != nil {
		return 0, err
	}
	return p.Reader.Read(b)
}
