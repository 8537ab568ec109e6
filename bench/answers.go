package bench

import (
	"net"
	"sync"
)

// answers are what a client has to say to what it has got. A goroutine of its own writes them, so that all that came to
// be said while the client went on reading leaves at once: a client that wrote after each record of TLS would spend most of
// its time, and of the broker's, on small records.
type answers struct {
	conn net.Conn
	mu   sync.Mutex
	b    []byte
	wake chan struct{} // holds a token if there may be something to write; closed when nothing more comes
}

func newAnswers(conn net.Conn) *answers {
	return &answers{conn: conn, wake: make(chan struct{}, 1)}
}

// add has b written. It does not wait for that.
func (a *answers) add(b []byte) {
	a.mu.Lock()
	a.b = append(a.b, b...)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// end says that nothing more comes.
func (a *answers) end() { close(a.wake) }

// write writes what comes until end, or until it cannot.
func (a *answers) write() error {
	var out []byte
	for range a.wake {
		a.mu.Lock()
		out, a.b = a.b, out[:0]
		a.mu.Unlock()
		if len(out) == 0 {
			continue
		}
		if _, err := a.conn.Write(out); err != nil {
			return err
		}
	}
	return nil
}
