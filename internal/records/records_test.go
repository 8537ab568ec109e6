package records

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// counted is a network that counts what is written to it, and fails when it is told to.
type counted struct {
	net.Conn
	mu     sync.Mutex
	writes int
	fail   error
}

func (c *counted) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		return 0, fail
	}
	return c.Conn.Write(b)
}

func (c *counted) set(fail error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes, c.fail = 0, fail
}

func (c *counted) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// link is a TLS connection over a Socket, and its other end.
type link struct {
	below  *Socket
	tls    *tls.Conn
	net    *counted
	remote *tls.Conn
}

func newLink(t *testing.T) *link {
	t.Helper()
	near, far := tcpPair(t)
	certificate := selfSigned(t)
	l := &link{net: &counted{Conn: near}, remote: tls.Server(far, &tls.Config{Certificates: []tls.Certificate{certificate}})}
	l.below = Below(l.net)
	l.tls = tls.Client(l.below, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	done := make(chan error, 1)
	go func() { done <- l.remote.Handshake() }()
	if err := errors.Join(l.tls.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return l
}

func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestOneWriteForFourRecords(t *testing.T) {
	l := newLink(t)
	for _, c := range []struct{ size, writes int }{
		{1, 1}, {Largest, 1}, {Largest + 1, 1}, {4 * Largest, 1}, {5 * Largest, 2}, {20 * Largest, 5},
	} {
		l.net.set(nil)
		got := make(chan []byte, 1)
		go func() {
			b := make([]byte, c.size)
			io.ReadFull(l.remote, b)
			got <- b
		}()
		want := make([]byte, c.size)
		rand.Read(want)
		if n, err := l.below.Through(l.tls, want); n != c.size || err != nil {
			t.Fatalf("%d bytes: %d, %v", c.size, n, err)
		}
		if !bytes.Equal(<-got, want) {
			t.Errorf("%d bytes came otherwise than they went", c.size)
		}
		if l.net.count() != c.writes {
			t.Errorf("%d bytes took %d writes, not %d", c.size, l.net.count(), c.writes)
		}
	}
}

// TestWritesKeepTheirOrder writes from two goroutines at a time: whatever the order, TLS refuses records that are not in
// theirs.
func TestWritesKeepTheirOrder(t *testing.T) {
	const times, size = 50, 3*Largest + 7
	l := newLink(t)
	var writers sync.WaitGroup
	for _, size := range []int{size, 9} {
		writers.Go(func() {
			for range times {
				if _, err := l.below.Through(l.tls, make([]byte, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if n, err := io.ReadFull(l.remote, make([]byte, times*(size+9))); err != nil {
		t.Errorf("after %d bytes: %v", n, err)
	}
	writers.Wait()
}

func TestAFailureOfTheNetworkStays(t *testing.T) {
	l, gone := newLink(t), errors.New("gone")
	l.net.set(gone)
	if _, err := l.below.Through(l.tls, make([]byte, 2*Largest)); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
	l.net.set(nil)
	for _, size := range []int{1, 2 * Largest} {
		if _, err := l.below.Through(l.tls, make([]byte, size)); !errors.Is(err, gone) {
			t.Errorf("%d bytes after a write that failed: error %v", size, err)
		}
	}
	if l.net.count() != 0 {
		t.Error("something was written behind records that are missing")
	}
}

// stuck is a network that takes nothing, until it is closed.
type stuck struct {
	net.Conn
	entered, closed chan struct{}
	close           sync.Once
}

func (s *stuck) Write([]byte) (int, error) {
	s.entered <- struct{}{}
	<-s.closed
	return 0, net.ErrClosed
}

func (s *stuck) Close() error {
	s.close.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

func TestClosingEndsAWrite(t *testing.T) {
	l := newLink(t)
	network := &stuck{Conn: l.net, entered: make(chan struct{}, 9), closed: make(chan struct{})}
	l.below.Conn = network
	wrote, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := l.below.Through(l.tls, make([]byte, 2*Largest))
		wrote <- err
	}()
	<-network.entered
	go func() { closed <- l.below.CloseOver(l.tls) }()
	deadline := time.After(time.Minute)
	for range 2 {
		select {
		case err := <-wrote:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("the write ended with %v", err)
			}
		case <-closed:
		case <-deadline:
			network.Close()
			t.Fatal("closing waits for a peer that does not read")
		}
	}
	if l.below.writing.Load() {
		t.Error("still writing")
	}
}
