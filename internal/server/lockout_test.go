package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const withLockout = `
authentication:
  anonymous: [open]
  attested: [secure]
  sources: [{ passwords: { file: users } }]
guard: { failures: 3, delay: 1ms, max_delay: 1ms, lockout: 1h }
`

// via connects through a proxy that says whose connection it is.
func (r *keptRig) via(version byte, address string) net.Conn {
	r.t.Helper()
	conn := r.dial("proxied")
	source := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	header := proxyproto.HeaderProxyFromAddrs(version, source, conn.RemoteAddr())
	if source.IP.To4() == nil {
		header = proxyproto.HeaderProxyFromAddrs(version, source, &net.TCPAddr{IP: net.IPv6loopback, Port: 1})
	}
	if _, err := header.WriteTo(conn); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// failureLine is what deploy/fail2ban looks for.
func failureLine(t testing.TB) *regexp.Regexp {
	t.Helper()
	text, err := os.ReadFile("../../deploy/fail2ban/vouchmq-filter.conf")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "failregex = ")
	line, _, _ := strings.Cut(rest, "\n")
	line = strings.NewReplacer("%(_prefix)s", "", "<HOST>", `(?P<host>\S+)`).Replace(line)
	pattern, err := regexp.Compile("(?m)" + line)
	if err != nil {
		t.Fatal(err)
	}
	return pattern
}

func TestLockOutBehindAProxy(t *testing.T) {
	for _, kind := range engines() {
		t.Run(string(kind), func(t *testing.T) {
			r := startLogins(t, kind, withLockout, map[string]string{"users": hashed(t, "alice", "a")})
			guesses, right := entrant{"guesser", "alice", "wrong"}, entrant{"c", "alice", "a"}
			for version := range 2 {
				version := byte(version + 1)
				address := fmt.Sprintf("203.0.113.%d:1000", version)
				for i := range 3 {
					if got, _ := enter5(t, r.via(version, address), guesses); got != 0x86 {
						t.Errorf("PROXY v%d, guess %d: code 0x%02x", version, i, got)
					}
				}
				if got, _ := enter5(t, r.via(version, address), right); got != noAnswer {
					t.Errorf("PROXY v%d: code 0x%02x for an address that is locked out", version, got)
				}
				got, c := enter5(t, r.via(version, "203.0.113.77:1000"), right)
				if got != 0 {
					t.Fatalf("PROXY v%d: code 0x%02x for another address", version, got)
				}
				c.close()
			}
			for i := range 3 { // a /64 counts together
				enter3(t, r.via(2, fmt.Sprintf("[2001:db8::%d]:1000", i+1)), guesses)
			}
			if got, _ := enter3(t, r.via(2, "[2001:db8::9:9]:1000"), right); got != noAnswer {
				t.Errorf("code 0x%02x for an address of a /64 that is locked out", got)
			}
			r.tries("plain", right, letIn) // the proxy itself has done nothing

			Await(t, "nine failures in the log", func() bool { return strings.Count(r.log.String(), "login failed") >= 9 })
			Await(t, "three addresses in the log", func() bool { return strings.Count(r.log.String(), "address locked out") >= 3 })
			hosts := map[string]int{}
			pattern := failureLine(t)
			for _, match := range pattern.FindAllStringSubmatch(r.log.String(), -1) {
				hosts[match[pattern.SubexpIndex("host")]]++
			}
			if len(hosts) != 5 || hosts["203.0.113.1"] != 3 || hosts["203.0.113.2"] != 3 || hosts["2001:db8::3"] != 1 {
				t.Errorf("fail2ban sees %v", hosts)
			}
			if n := strings.Count(r.log.String(), "address locked out"); n != 3 {
				t.Errorf("%d log lines say that an address is locked out", n)
			}
			if s := stats(t, r.rig).Transport; s.RefusedAdmit != 3 {
				t.Errorf("%d connections were refused", s.RefusedAdmit)
			}
		})
	}
}

// Those who were connected when their address is locked out stay, logins that were on their way get 0x8A even with the
// right password, and a reload can exempt the address.
func TestLockOutOfThisMachine(t *testing.T) {
	r := startLogins(t, server.Native, withLockout, map[string]string{"users": hashed(t, "alice", "a")})
	_, stays := enter5(t, r.dial("plain"), entrant{"stays", "alice", "a"})
	if stays == nil {
		t.Fatal("not let in")
	}
	defer stays.close()
	early5, early3 := r.dial("plain"), r.dial("plain") // connected, and say nothing yet
	Await(t, "the connections", func() bool { return r.serverConnections() == 3 })
	for range 3 {
		enter5(t, r.dial("tls"), entrant{"guesser", "alice", "wrong"})
	}
	if got, _ := enter5(t, early5, entrant{"early5", "alice", "a"}); got != 0x8A {
		t.Errorf("MQTT 5: code 0x%02x for a login that was on its way", got)
	}
	if got, _ := enter3(t, early3, entrant{"early3", "alice", "a"}); got != 5 {
		t.Errorf("MQTT 3.1.1: code 0x%02x for a login that was on its way", got)
	}
	for _, listener := range []string{"plain", "tls", "open"} {
		r.tries(listener, entrant{"c", "alice", "a"}, ignored)
	}
	stays.publish(t, "users/alice/x", "still here", 1, false)

	r.edit("guard: { failures: 3,", "guard: { exempt: [127.0.0.1], failures: 3,")
	r.reload()
	r.tries("plain", entrant{"c", "alice", "a"}, letIn)
	for range 5 {
		r.tries("plain", entrant{"c", "alice", "wrong"}, bad)
	}
	r.tries("plain", entrant{"c", "alice", "a"}, letIn)
}

// What an operator sees of guesses, and does about an address that is locked out in error.
func TestLockOutIsSeenAndUndone(t *testing.T) {
	const more = `
metrics: { address: "127.0.0.1:0" }
admin: { socket: $SOCKET }
`
	folder, err := os.MkdirTemp("", "vouchmq-") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "s")
	r := startLogins(t, server.Native, withLockout+strings.Replace(more, "$SOCKET", socket, 1), map[string]string{"users": hashed(t, "alice", "a")})
	for range 3 {
		enter5(t, r.via(1, "203.0.113.7:1"), entrant{"guesser", "alice", "wrong"})
	}
	right := entrant{"c", "alice", "a"}
	if got, _ := enter5(t, r.via(1, "203.0.113.7:1"), right); got != noAnswer {
		t.Errorf("code 0x%02x", got)
	}
	_, body := get(t, "http://"+r.MetricsAddr()+"/metrics")
	for _, want := range []string{
		`vouchmq_guard_events_total{event="failures"} 3`, `vouchmq_guard_events_total{event="lockouts"} 1`,
		`vouchmq_guard_events_total{event="refused"} 1`, `vouchmq_guard_events_total{event="untrusted_proxy"} 0`, "vouchmq_guard_locked_addresses 1",
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("the metrics have no %s", want)
		}
	}
	c := admin.NewClient(socket)
	t.Cleanup(c.Close)
	if err := c.Unlock(t.Context(), "203.0.113.7"); err != nil {
		t.Error(err)
	}
	if err := c.Unlock(t.Context(), "203.0.113.7"); !errors.Is(err, &admin.Error{Code: admin.Refused}) {
		t.Errorf("error %v", err)
	}
	got, client := enter5(t, r.via(1, "203.0.113.7:1"), right)
	if got != 0 {
		t.Fatalf("code 0x%02x", got)
	}
	client.close()
}

// A client that attests needs no password where the configuration says so; one that does not attest does.
func TestAttestedClientsWithoutPassword(t *testing.T) {
	r := startLogins(t, server.Native, withLockout, map[string]string{"users": hashed(t, "alice", "a")})
	bundle := r.readBundle(t)
	dial := func(o client.Options) net.Conn {
		conn, _, err := client.Dial(context.Background(), bundle, o)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	attests := client.Options{Attester: sim.NewAttester(r.device, attest.Digest{}), Identity: attest.Identity{Module: deviceModule}}
	for version, enter := range enter {
		got, c := enter(t, dial(attests), entrant{id: "device"})
		if got != 0 {
			t.Fatalf("%s: code 0x%02x", version, got)
		}
		c.publish(t, "public/x", "x", 1, false)
		c.close()
		if got, c := enter(t, dial(attests), entrant{"device", "alice", "a"}); got != 0 { // a user besides
			t.Errorf("%s with a password: code 0x%02x", version, got)
		} else {
			c.close()
		}
	}
	if got, _ := enter5(t, dial(client.Options{}), entrant{id: "c"}); got != 0x87 {
		t.Errorf("without evidence: code 0x%02x", got)
	}
	if got, _ := enter5(t, dial(attests), entrant{"device", "alice", "wrong"}); got != 0x86 {
		t.Errorf("with a wrong password: code 0x%02x", got)
	}
	got, c := enter5(t, dial(client.Options{}), entrant{"c", "alice", "a"})
	if got != 0 {
		t.Fatalf("with a password: code 0x%02x", got)
	}
	c.close()
}

// A reload is all or nothing: with a damaged password file, the guard stays as it was too.
func TestGuardStaysWithTheRest(t *testing.T) {
	r := startLogins(t, server.Native, withLockout, map[string]string{"users": hashed(t, "alice", "a")})
	r.edit("guard: { failures: 3,", "guard: { failures: 1,")
	r.write("users", "alice:a\n")
	if err := r.keeper.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "users:1: ") {
		t.Fatalf("error %v", err)
	}
	enter5(t, r.dial("plain"), entrant{"guesser", "alice", "wrong"})
	r.tries("plain", entrant{"c", "alice", "a"}, letIn)
	r.write("users", hashed(t, "alice", "a"))
	r.reload()
	if !strings.Contains(r.log.String(), "changed=[guard]") {
		t.Error("the log does not say that the guard has changed")
	}
	enter5(t, r.dial("plain"), entrant{"guesser", "alice", "wrong"})
	r.tries("plain", entrant{"c", "alice", "a"}, ignored)
}
