package httpd

import (
	"net"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestConnectionsAreBounded(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limit(socket, 1)
	accepted := make(chan net.Conn)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	for range 2 {
		conn, err := net.Dial("tcp", socket.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("a second connection is accepted")
	case <-time.After(20 * time.Millisecond): // long enough to see it if it were; it cannot fail wrongly
	}
	first.Close()
	first.Close() // gives its place back once only
	(<-accepted).Close()
	l.Close()
	<-ended
}
