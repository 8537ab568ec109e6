package atls_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const (
	service    = "plant.example"
	publicName = "public.example"
)

var (
	brokerIdentity = attest.Identity{
		Module: attest.Sum([]byte("module of the broker")), Config: attest.Sum([]byte("configuration of the broker")),
		Runtime: attest.Sum([]byte("runtime")), Instance: "broker-1",
	}
	sensorIdentity = attest.Identity{
		Module: attest.Sum([]byte("module of the sensor")), Config: attest.Sum([]byte("configuration of the sensor")),
		Runtime: attest.Sum([]byte("runtime")), Instance: "sensor-7",
	}
)

// rig is an owner, a broker's keys and a client's bundle, as tests need them; each test changes its own copy.
type rig struct {
	ca      *owner.CA
	leafKey *ecdsa.PrivateKey
	ech     *atls.ECHKey
	tee     *sim.Key // of the broker
	sensor  *sim.Key
	server  atls.ServerConfig
	client  atls.ClientConfig
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{}
	r.ca = Must(owner.New("Test owner", time.Now(), time.Hour))(t)
	r.leafKey = Must(owner.NewKey())(t)
	r.ech = Must(atls.NewECHKey(publicName, 1))(t)
	r.tee = Must(sim.NewKey())(t)
	r.sensor = Must(sim.NewKey())(t)
	leaf := Must(r.ca.IssueServer(&r.leafKey.PublicKey, owner.Server{Service: service, PublicName: publicName}, time.Now(), time.Hour))(t)
	r.server = atls.ServerConfig{
		Service: service, Certificate: owner.TLSCertificate(leaf, r.leafKey), ECHKeys: []*atls.ECHKey{r.ech},
		Attester: sim.NewAttester(r.tee, attest.Digest{1}), Identity: brokerIdentity,
	}
	r.client = atls.ClientConfig{
		Service: service, Roots: r.ca.Pool(), ECHConfigList: atls.ECHConfigList(r.ech),
		Server: appraiser(t, brokerPolicy(r)),
	}
	return r
}

// mutual makes the client attest and the server want it.
func (r *rig) mutual(t testing.TB) *rig {
	r.client.Attester, r.client.Identity = sim.NewAttester(r.sensor, attest.Digest{2}), sensorIdentity
	r.server.Clients = appraiser(t, policy.Identity{
		Name: "sensor", Modules: []attest.Digest{sensorIdentity.Module}, Simulated: true,
		AnyOf: []policy.Requirement{pinned(r.sensor)},
	})
	return r
}

func brokerPolicy(r *rig) policy.Identity {
	return policy.Identity{
		Name:    "broker",
		Modules: []attest.Digest{brokerIdentity.Module}, Configs: []attest.Digest{brokerIdentity.Config},
		Simulated: true, AnyOf: []policy.Requirement{pinned(r.tee)},
	}
}

func pinned(key *sim.Key) policy.Requirement {
	return policy.Requirement{Platform: attest.Sim, Want: map[string][]string{"key": {key.Digest().String()}}}
}

func appraiser(t testing.TB, identities ...policy.Identity) *policy.Appraiser {
	t.Helper()
	return policy.NewAppraiser(Must(policy.New(identities, nil))(t), attest.NewRegistry(sim.NewVerifier()))
}

// accepted is the outcome of one Handshake.
type accepted struct {
	conn *atls.Conn
	err  error
}

// serve listens on a loopback port and hands every connection to handle.
func serve(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	l := Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); handle(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// start serves config. Outcomes come on the channel; accepted connections stay open until the test ends.
func start(t testing.TB, config atls.ServerConfig) (addr string, outcomes chan accepted) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	server := Must(atls.NewServer(ctx, config))(t)
	outcomes = make(chan accepted, 16)
	addr = serve(t, func(raw net.Conn) {
		conn, err := server.Handshake(ctx, raw)
		outcomes <- accepted{conn, err}
		<-ctx.Done()
	})
	t.Cleanup(cancel) // before serve's cleanup waits for the handlers
	return addr, outcomes
}

// admitted is the connection of a handshake that the server has finished.
func admitted(t testing.TB, outcomes <-chan accepted) *atls.Conn {
	t.Helper()
	server := Receive(t, outcomes)
	if server.err != nil {
		t.Fatal(server.err)
	}
	return server.conn
}

func dialer(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) }
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// dial connects; the connection is closed when the test ends.
func dial(t testing.TB, addr string, config atls.ClientConfig) (*atls.Conn, error) {
	t.Helper()
	conn, err := atls.Dial(testContext(t), dialer(addr), &config)
	if conn != nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

func ordinaryTLS(r *rig) *tls.Config {
	return &tls.Config{ServerName: service, RootCAs: r.ca.Pool(), NextProtos: []string{"mqtt"}}
}

// countingAttester counts quotes.
type countingAttester struct {
	attest.Attester
	quotes atomic.Int64
}

func (a *countingAttester) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	a.quotes.Add(1)
	return a.Attester.Attest(ctx, data)
}
