package server_test

import (
	"crypto/tls"
	"fmt"
	"hash/crc32"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/servertest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// Clients that others have written, each over every transport and in every version that it has, go through the scenarios of
// interop_scenarios_test.go. How a client is told what to do stands in a file for each: it is an adapter.

// letter is a message, published or received.
type letter struct {
	Topic   string `json:"topic"`
	Payload []byte `json:"payload"`
	QoS     byte   `json:"qos"`
	Retain  bool   `json:"retain"`
	// Only in MQTT 5.
	ContentType   string      `json:"content_type,omitempty"`
	ResponseTopic string      `json:"response_topic,omitempty"`
	Correlation   []byte      `json:"correlation,omitempty"`
	User          [][2]string `json:"user,omitempty"`
	Expiry        uint32      `json:"expiry,omitempty"` // seconds
	Alias         uint16      `json:"alias,omitempty"`
	Identifiers   []int       `json:"identifiers,omitempty"` // of subscriptions; only received
}

// String is all that must arrive as it was sent, so neither the expiry interval, which shrinks, nor the topic alias.
func (l letter) String() string {
	return fmt.Sprintf("%s=%.20q (%d bytes, %08x) q%d r%v %q %q %q %q %v", l.Topic, l.Payload, len(l.Payload), crc32.ChecksumIEEE(l.Payload),
		l.QoS, l.Retain, l.ContentType, l.ResponseTopic, l.Correlation, l.User, l.Identifiers)
}

// at returns the letter as a subscription hands it over: live, with another QoS.
func (l letter) at(qos byte) letter {
	l.QoS, l.Retain = qos, false
	return l
}

// kept returns the letter as a new subscription gets it if it was retained.
func (l letter) kept() letter {
	l.Retain = true
	return l
}

// wish is a subscription that is asked for.
type wish struct {
	Filter     string
	QoS        byte
	Identifier int // 0 is none
}

// joining is how a client connects.
type joining struct {
	ID      string
	Resume  bool   // go on with the session of the last time, and keep this one for the next
	Expiry  uint32 // seconds that the session is kept, in MQTT 5
	Aliases uint16 // topic aliases that the broker may set
	Will    *letter
	Wishes  []wish
}

// hidden is what a client returns that does not tell what it was told.
const hidden = -1

// party is one connection of a client.
type party interface {
	// publish sends letters, waits until they are acknowledged and returns the reason code of the last, or hidden.
	// Several letters have the topic and properties of the first.
	publish(t testing.TB, letters ...letter) int
	// granted returns what the broker answered to each wish.
	granted() []int
	// resumed returns whether the session was there before, as 0 or 1, or hidden.
	resumed() int
	received() *mailbox
	// drop cuts the connection as a failing network does.
	drop()
	// leave says goodbye. It may be called again, and after drop.
	leave()
}

// mailbox gathers what arrives.
type mailbox struct {
	mu   sync.Mutex
	list []letter
}

func (m *mailbox) add(l letter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, l)
}

// all returns what has arrived and not been taken.
func (m *mailbox) all() []letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list)
}

// take waits for so many letters and removes all that are there.
func (m *mailbox) take(t testing.TB, n int) []letter {
	t.Helper()
	for deadline := time.Now().Add(Patience); len(m.all()) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d letters came, not %d:\n%s", len(m.all()), n, strings.Join(written(m.all()), "\n"))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.list
	m.list = nil
	return taken
}

// expect waits for letters, in any order, for QoS 0 and 1 may overtake QoS 2. It fails if others came with them.
func (m *mailbox) expect(t testing.TB, want ...letter) {
	t.Helper()
	got, wanted := written(m.take(t, len(want))), written(want)
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		t.Fatalf("received\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(wanted, "\n"))
	}
}

func written(letters []letter) []string {
	lines := make([]string, len(letters))
	for i, l := range letters {
		lines[i] = l.String()
	}
	return lines
}

// route is how a client reaches the broker.
type route struct {
	transport string // tcp, tls, ws or wss
	version   string // 3.1, 3.1.1 or 5
	host      string // with port
	ca        string // file of the owner CA, for tls and wss
	tls       *tls.Config
}

// url is what most clients call it.
func (r *route) url() string {
	switch r.transport {
	case "tcp":
		return "mqtt://" + r.host
	case "tls":
		return "mqtts://" + r.host
	}
	return r.transport + "://" + r.host + "/mqtt"
}

func (r *route) port() string {
	_, port, _ := net.SplitHostPort(r.host)
	return port
}

func (r *route) secure() bool { return r.transport == "tls" || r.transport == "wss" }

// testedClient is a client with what it can do.
type testedClient struct {
	name       string
	transports []string
	versions   []string
	// open gets the client ready for a route, and returns what connects with it.
	open func(t testing.TB, r *route) func(t testing.TB, j joining) party
}

// short reports whether a short run has the client on a route: its last version, over the first and the last transport.
func (c *testedClient) short(transport, version string) bool {
	last := len(c.transports) - 1
	return version == c.versions[len(c.versions)-1] && (transport == c.transports[0] || transport == c.transports[last])
}

var everyTransport = []string{"tcp", "tls", "ws", "wss"}

var testedClients = []testedClient{
	{"mosquitto", []string{"tcp", "tls"}, []string{"3.1", "3.1.1", "5"}, openMosquitto},
	{"paho-python", everyTransport, []string{"3.1.1", "5"}, openPython},
	{"MQTT.js", everyTransport, []string{"3.1.1", "5"}, openNode},
	{"paho.golang", everyTransport, []string{"5"}, openPaho5},
	{"paho.mqtt.golang", everyTransport, []string{"3.1.1"}, openPaho3},
}

// interopPolicy lets everybody do everything where the tests are, and nothing beside that.
const interopPolicy = `
version: 1
rules:
  - who: { anonymous: true }
    publish: ["interop/#"]
    subscribe: ["interop/#"]
`

// interopAliases is how many topic aliases the broker may set.
const interopAliases = 8

// startForAll starts a broker with a listener for each transport, on the engine that is attested.
func startForAll(t testing.TB) *rig {
	t.Helper()
	o := server.DevelopmentOptions{Plain: "-", Engine: server.Wasm}
	o.Limits.Core.MaxAliasesOut = interopAliases
	return rigOf(servertest.Start(t, o, func(c *server.Config, _ *server.State) {
		c.Policy = Must(policy.Parse("policy.yaml", []byte(interopPolicy)))(t)
		for _, kind := range []server.Kind{server.TCP, server.TLS, server.WS, server.WSS} {
			c.Listeners = append(c.Listeners, server.Listener{Name: string(kind), Kind: kind, Address: "127.0.0.1:0"})
		}
	}))
}

// route returns how the broker is reached.
func (r *rig) route(transport, version string) *route {
	_, port, _ := net.SplitHostPort(r.Addr(transport).String())
	way := &route{transport: transport, version: version, host: net.JoinHostPort("localhost", port)}
	if way.secure() {
		way.ca = r.state.Path(server.OwnerCAFile)
		way.tls = tlsConfig(r)
		way.tls.ServerName = "localhost"
	}
	return way
}

// Five clients that know the standards and nothing of this broker, over what they can. [MQTT311-7.0.0-2]
func TestInterop(t *testing.T) {
	r := startForAll(t)
	requestsFromMosquitto(t, r)
	for _, c := range testedClients {
		for _, transport := range c.transports {
			for _, version := range c.versions {
				if testing.Short() && !c.short(transport, version) {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", c.name, transport, version), func(t *testing.T) {
					t.Parallel()
					playAll(t, r, c.open(t, r.route(transport, version)), transport, version)
				})
			}
		}
	}
}

// playAll goes through the scenarios with one client on one route. The other side of each is paho.golang over TCP.
func playAll(t *testing.T, r *rig, join func(testing.TB, joining) party, transport, version string) {
	other := openPaho5(t, r.route("tcp", "5"))
	for _, s := range scenarios {
		if s.v5 && version != "5" || s.once && transport != "tcp" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			base := "interop/" + strings.NewReplacer("TestInterop/", "", " ", "-", "+", "-", "#", "-").Replace(t.Name())
			s.play(&stage{T: t, base: base, version: version, joinTested: join, joinOther: other})
		})
	}
}
