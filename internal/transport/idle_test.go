package transport

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// idleClients is the variable that makes TestIdleClients be the other side of TestCostOfIdleConnections.
const idleClients = "VOUCHMQ_TEST_IDLE_CLIENTS"

// What an idle connection costs, the clients being in another process: no buffer, and a stack of 4 KiB at most. TLS needs some 8 KB of
// its own, and a WebSocket has buffers.
func TestCostOfIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens thousands of connections")
	}
	const count = 1000
	for _, x := range []struct {
		kind  string
		bound int
	}{{"plain", 7 << 10}, {"login", 7 << 10}, {"tls", 16 << 10}, {"ws", 20 << 10}, {"wss", 28 << 10}} {
		kind, bound := x.kind, x.bound
		t.Run(kind, func(t *testing.T) {
			b := newBed(t, Limits{}, nil)
			config := ListenConfig{}
			if kind == "tls" || kind == "wss" {
				config.Handshake = withTLS(t)
			}
			if kind == "ws" || kind == "wss" {
				config.WebSocket = &WebSocket{}
			}
			if kind == "login" {
				g := &guard{answers: make(chan mqtt.ReasonCode)}
				close(g.answers) // reason 0 for all
				config.Login = func(Client) Login { return g }
			}
			b.listen(t, config)
			heapBefore, residentBefore := heap(), resident(t)
			end := startIdleClients(t, kind, b.addr, count)
			heapEach, residentEach := (heap()-heapBefore)/count, (resident(t)-residentBefore)/count
			t.Logf("%s: %d bytes of heap and stacks, %d bytes resident", kind, heapEach, residentEach)
			if heapEach > bound { // what is resident depends on what ran before, and on the race detector
				t.Errorf("more than %d bytes", bound)
			}
			end()
			testkit.Await(t, "their ends", func() bool { return b.Stats().Connections == 0 })
		})
	}
}

// resident is the memory of this process, as the system counts it.
func resident(t *testing.T) int {
	t.Helper()
	heap() // collects
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("the system does not tell what memory a process has")
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// startIdleClients returns when all clients have been answered. end ends them.
func startIdleClients(t *testing.T, kind, addr string, count int) (end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestIdleClients$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", idleClients, kind, addr, count))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		end()
		t.Fatalf("clients say %q, %v", line, err)
	}
	return end
}

// TestIdleClients is a process of its own, see TestCostOfIdleConnections.
func TestIdleClients(t *testing.T) {
	var kind, addr string
	var count int
	if _, err := fmt.Sscan(os.Getenv(idleClients), &kind, &addr, &count); err != nil {
		t.Skip("serves another test")
	}
	var conns []net.Conn
	for range count {
		conns = append(conns, idleClient(t, kind, addr))
	}
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the other side closes it
	_ = conns
	os.Exit(0)
}

func idleClient(t *testing.T, kind, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if kind == "tls" || kind == "wss" {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	ping := []byte{0xC0, 0}
	if kind == "ws" || kind == "wss" {
		write(t, c, []byte(upgradeRequest("/mqtt", "Sec-WebSocket-Protocol: mqtt")))
		for got := ""; !strings.HasSuffix(got, "\r\n\r\n"); got += string(expect(t, c, 1)) {
		}
		ping = []byte{0x82, 0x82, 0, 0, 0, 0, 0xC0, 0}
	}
	if kind == "login" {
		write(t, c, connect)
		expect(t, c, 2)
	}
	write(t, c, ping)
	expect(t, c, 2)
	return c
}
