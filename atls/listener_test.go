package atls_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

func (r *rig) listen(t testing.TB, o atls.ListenerOptions) *atls.Listener {
	t.Helper()
	server := Must(atls.NewServer(testContext(t), r.server))(t)
	l := Must(atls.Listen("127.0.0.1:0", server, o))(t)
	t.Cleanup(func() { l.Close() })
	return l
}

// TestListenerSlowPeer: peers that say nothing hold up nobody, as long as there are places.
func TestListenerSlowPeer(t *testing.T) {
	r := newRig(t)
	l := r.listen(t, atls.ListenerOptions{})
	for range 5 {
		defer Must(net.Dial("tcp", l.Addr().String()))(t).Close()
	}
	client, err := dial(t, l.Addr().String(), r.client)
	if err != nil {
		t.Fatal(err)
	}
	server := Must(l.Accept())(t)
	defer server.Close()
	if p := server.(*atls.Conn).Peer(); p.Carrier != atls.N1 {
		t.Errorf("%+v", p)
	}
	ping(t, client, server)
}

// TestListenerIsBounded: with one place the second peer waits until the first is done with.
func TestListenerIsBounded(t *testing.T) {
	r := newRig(t)
	r.server.HandshakeTimeout = 3 * time.Second // which the second must keep to, on a loaded machine
	failed := make(chan error, 1)
	l := r.listen(t, atls.ListenerOptions{MaxHandshakes: 1, Failed: func(_ net.Addr, err error) { failed <- err }})
	defer Must(net.Dial("tcp", l.Addr().String()))(t).Close()
	began := time.Now()
	if _, err := dial(t, l.Addr().String(), r.client); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "listener", Receive(t, failed), attest.ErrTimeout)
	if waited := time.Since(began); waited < 500*time.Millisecond {
		t.Errorf("two handshakes ran at a time: the second was done after %v", waited)
	}
	Must(l.Accept())(t).Close()
}

// TestListenerTellsFailures to its callback, and Accept returns only those that were accepted.
func TestListenerTellsFailures(t *testing.T) {
	r := newRig(t).mutual(t)
	r.server.RequireClientEvidence = true
	failed := make(chan error, 2)
	l := r.listen(t, atls.ListenerOptions{Failed: func(peer net.Addr, err error) {
		if peer == nil {
			t.Error("no address")
		}
		failed <- err
	}})
	raw := Must(net.Dial("tcp", l.Addr().String()))(t)
	io.WriteString(raw, "GET / HTTP/1.1\r\n\r\n")
	wantKind(t, "not TLS", Receive(t, failed), attest.ErrTLS)
	raw.Close()
	without := r.client
	without.Attester = nil
	if _, err := dial(t, l.Addr().String(), without); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "no evidence", Receive(t, failed), attest.ErrMissing)

	if _, err := dial(t, l.Addr().String(), r.client); err != nil {
		t.Fatal(err)
	}
	conn := Must(l.Accept())(t).(*atls.Conn)
	defer conn.Close()
	if !conn.Peer().Attested {
		t.Error("Accept returned a peer without evidence")
	}
}

// TestListenerClose ends what waits: handshakes, connections that nobody has accepted, and Accept.
func TestListenerClose(t *testing.T) {
	r := newRig(t)
	l := r.listen(t, atls.ListenerOptions{Failed: func(_ net.Addr, err error) { t.Error("told of its own end:", err) }})
	silent := Must(net.Dial("tcp", l.Addr().String()))(t)
	defer silent.Close()
	waiting, err := dial(t, l.Addr().String(), r.client)
	if err != nil {
		t.Fatal(err)
	}
	accepted := Must(l.Accept())(t)
	defer accepted.Close()
	unaccepted, err := dial(t, l.Addr().String(), r.client)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]net.Conn{"in its handshake": silent, "not accepted": unaccepted} {
		c.SetReadDeadline(time.Now().Add(Patience))
		var timeout net.Error
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	ping(t, waiting, accepted) // those that were accepted stay
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Error("closed twice:", err)
	}
}

// TestListenerServer can be replaced while it runs.
func TestListenerServer(t *testing.T) {
	r := newRig(t)
	l := r.listen(t, atls.ListenerOptions{})
	next := r.server
	next.Identity.Module[0] ^= 1
	l.SetServer(Must(atls.NewServer(testContext(t), next))(t))
	_, err := dial(t, l.Addr().String(), r.client)
	wantKind(t, "client", err, attest.ErrModule)
}

// faultyListener fails first, as one without file descriptors does, and is then as always.
type faultyListener struct {
	net.Listener
	once sync.Once
}

var errFaulty = errors.New("too many open files")

func (l *faultyListener) Accept() (net.Conn, error) {
	failed := false
	l.once.Do(func() { failed = true })
	if failed {
		return nil, errFaulty
	}
	return l.Listener.Accept()
}

// TestListenerPassesErrors of the listener below on, and goes on if the caller does.
func TestListenerPassesErrors(t *testing.T) {
	r := newRig(t)
	inner := Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	l := atls.NewListener(&faultyListener{Listener: inner}, Must(atls.NewServer(testContext(t), r.server))(t), atls.ListenerOptions{})
	defer l.Close()
	if _, err := l.Accept(); !errors.Is(err, errFaulty) {
		t.Fatal(err)
	}
	if _, err := dial(t, l.Addr().String(), r.client); err != nil {
		t.Fatal(err)
	}
	Must(l.Accept())(t).Close()
	inner.Close() // by somebody else
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
