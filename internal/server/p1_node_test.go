package server_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/servertest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// The client of examples/p1-node shares no code with this program, not even its TLS: what it accepts is the protocol as it
// is written down.

const nodeClient = "../../examples/p1-node/client.mjs"

// startInClear starts a broker that serves p1 without ECH, whose TEE may have faults.
func startInClear(t testing.TB, kind server.Engine, faults sim.Faults) *rig {
	t.Helper()
	return rigOf(servertest.Start(t, server.DevelopmentOptions{Plain: "-", Engine: kind}, func(c *server.Config, state *server.State) {
		c.Listeners[0].P1WithoutECH = true
		c.Attester = sim.NewAttester(state.Sim, c.Runtime).WithFaults(faults)
	}))
}

// runNode has the Node client connect to an address, with what it is to accept.
func runNode(t testing.TB, r *rig, address string, module, key attest.Digest) (output string, status int) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", nodeClient, host, port, r.state.Service, r.state.Path(server.OwnerCAFile),
		module.String(), key.String(), "from/node", "seen by nobody else").CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

func TestP1FromNode(t *testing.T) {
	needTool(t, "node")
	r := startInClear(t, server.Wasm, sim.Faults{})
	good, key := r.Identity().Module, r.state.Sim.Digest()
	for _, test := range []struct {
		name        string
		address     string
		module, key attest.Digest
		status      int
		want        string
	}{
		{"accepted", r.Addr(server.AttestedListener).String(), good, key, 0, "received: seen by nobody else"},
		{"wrong module", r.Addr(server.AttestedListener).String(), attest.Sum([]byte("another")), key, 3, "is not the accepted one"},
		{"another TEE", r.Addr(server.AttestedListener).String(), good, attest.Sum([]byte("another")), 3, "another simulated TEE"},
		{"relayed evidence", relay(t, r), good, key, 3, "another TLS connection"},
		{"another owner's broker", startInClear(t, server.Native, sim.Faults{}).Addr(server.AttestedListener).String(), good, key, 1, "certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			output, status := runNode(t, r, test.address, test.module, test.key)
			if status != test.status || !strings.Contains(output, test.want) {
				t.Errorf("exit status %d, want %d:\n%s", status, test.status, output)
			}
		})
	}
	for name, test := range map[string]struct {
		faults sim.Faults
		want   string
	}{
		"report data zero":              {sim.Faults{ZeroReportData: true}, "all zero"},
		"report data of something else": {sim.Faults{ReportData: &attest.ReportData{1}}, "made for something else"},
		"broken signature":              {sim.Faults{BadSignature: true}, "signature of the quote is not valid"},
		"debug":                         {sim.Faults{Debug: true}, "debug mode"},
		"expired":                       {sim.Faults{Expiry: time.Now().Add(-time.Hour)}, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startInClear(t, server.Native, test.faults)
			output, status := runNode(t, r, r.Addr(server.AttestedListener).String(), r.Identity().Module, r.state.Sim.Digest())
			if status != 3 || !strings.Contains(output, test.want) {
				t.Errorf("exit status %d:\n%s", status, output)
			}
		})
	}
}

// The Node client agrees with the worked example of the protocol's description.
func TestNodeAgreesWithWorkedExample(t *testing.T) {
	needTool(t, "node")
	out, err := exec.Command("node", "../../examples/p1-node/example.mjs", "../../docs/attested-tls.md").CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// relay starts a machine in the middle that has stolen the broker's certificate with its key. It asks the genuine broker
// for evidence with the client's own nonce, and gives it to the client. It must get nothing in return.
func relay(t testing.TB, r *rig) (address string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{r.state.Certificate}, NextProtos: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if got := relayOne(t, r, conn.(*tls.Conn)); len(got) != 0 {
			t.Errorf("the machine in the middle got %d bytes of the application", len(got))
		}
	})
	t.Cleanup(func() { _ = listener.Close(); wg.Wait() })
	return listener.Addr().String()
}

func relayOne(t testing.TB, r *rig, victim *tls.Conn) (got []byte) {
	if err := victim.Handshake(); err != nil {
		t.Error(err)
		return nil
	}
	onward, err := tls.Dial("tcp", r.Addr(server.AttestedListener).String(), &tls.Config{
		ServerName: victim.ConnectionState().ServerName, RootCAs: owner.Pool(r.state.Owner.Certificate()), NextProtos: []string{"mqtt"},
	})
	if err != nil {
		t.Error(err)
		return nil
	}
	defer onward.Close()
	length := make([]byte, 4)
	if _, err := io.ReadFull(onward, length); err != nil {
		t.Error(err)
		return nil
	}
	if _, err := victim.Write(length); err != nil {
		t.Error(err)
		return nil
	}
	if n, err := io.CopyN(victim, onward, int64(binary.BigEndian.Uint32(length))); err != nil || n == 0 {
		t.Errorf("the genuine broker's evidence was not relayed: %d bytes, error %v", n, err)
	}
	got, _ = io.ReadAll(victim)
	return got
}
