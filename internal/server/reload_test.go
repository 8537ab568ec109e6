package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/module/moduletest"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/servertest"
	"github.com/vouchmq/vouchmq/internal/server/settings"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const reloadFile = `
service: broker.plant.example
policy: policy.yaml
tee: sim
engine: $ENGINE
log: { level: info }
listeners:
  - { name: plain, kind: tcp, address: "127.0.0.1:0" }
  - name: tls
    kind: tls
    address: "127.0.0.1:0"
    tls: { certificate: server.pem, key: server.key }
    client_certificates: { ca: ca.pem, crl: [clients.crl], required: true }
  - { name: secure, kind: attested, address: "127.0.0.1:0" }
limits: { max_inflight: 100 }
`

const reloadPolicy = `
version: 1
identities:
  device:
    module: [$MODULE]
    simulated: allow
    any_of: [{ sim: { key: [$KEY] } }]
rules:
  - who: [{ anonymous: true }, { user: one }, { user: two }, device]
    publish: ["#"]
    subscribe: ["#"]
`

// deviceModule is what the clients that attest say they run.
var deviceModule = attest.Sum([]byte("device"))

// keptRig is a broker that runs from a file, with its keeper.
type keptRig struct {
	*rig
	t      testing.TB
	dir    string
	text   string
	pki    *pki
	keeper *server.Keeper
	level  *slog.LevelVar
	device *sim.Key // that the policy's device has
}

func (r *keptRig) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// edit changes the configuration file.
func (r *keptRig) edit(from, to string) {
	r.t.Helper()
	changed := strings.Replace(r.text, from, to, 1)
	if changed == r.text {
		r.t.Fatalf("the file has no %q", from)
	}
	r.text = changed
	r.write("vouchmq.yaml", changed)
}

func (r *keptRig) reload() {
	r.t.Helper()
	if err := r.keeper.Reload(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// newDevice makes the key of a simulated TEE.
func newDevice(t testing.TB) *sim.Key {
	t.Helper()
	key, err := sim.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func startKept(t testing.TB, kind server.Engine, change func(*server.KeeperConfig)) *keptRig {
	t.Helper()
	r := &keptRig{rig: &rig{log: &Buffer{}}, t: t, dir: t.TempDir(), level: new(slog.LevelVar)}
	r.pki = newPKI(t, r.dir)
	r.pki.writeServer(time.Hour)
	r.pki.writeList(time.Now().Add(time.Hour))
	r.text = strings.Replace(reloadFile, "$ENGINE", string(kind), 1)
	r.write("vouchmq.yaml", r.text)
	device := newDevice(t)
	r.write("policy.yaml", strings.NewReplacer("$KEY", device.Digest().String(), "$MODULE", deviceModule.String()).Replace(reloadPolicy))
	r.device = device
	r.run(kind, change)
	return r
}

// run starts the broker from the files that have been written.
func (r *keptRig) run(kind server.Engine, change func(*server.KeeperConfig)) {
	t := r.t
	t.Helper()
	opening := server.Opening{Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: r.level})), Level: r.level}
	if kind == server.Wasm {
		opening.Module = moduletest.Broker(t)
	}
	opening.Now = time.Now()
	file := filepath.Join(r.dir, "vouchmq.yaml")
	opened, err := openFile(file, opening)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = servertest.Run(t, opened.Config, r.log)
	r.state = opened.State
	config := server.KeeperConfig{Server: r.Server, Opened: opened, Read: func() (*settings.Settings, error) { return readSettings(file) }, Log: opening.Log}
	if change != nil {
		change(&config)
	}
	r.keeper = server.NewKeeper(config)
}

// tls connects to the listener tls.
func (r *keptRig) tls(certificates ...tls.Certificate) (*tls.Conn, error) {
	return r.tlsWith(&tls.Config{Certificates: certificates})
}

func (r *keptRig) tlsWith(config *tls.Config) (*tls.Conn, error) {
	config.RootCAs, config.ServerName = owner.Pool(r.pki.ca.Certificate()), "127.0.0.1"
	config.NextProtos = []string{"mqtt"}
	conn, err := tls.Dial("tcp", r.Addr("tls").String(), config)
	if err != nil {
		return nil, err
	}
	// In TLS 1.3 a client hears that its certificate was refused when it reads.
	if err := conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return nil, err
	}
	return conn, nil
}

// accepted connects with MQTT, or says why that was not possible.
func (r *keptRig) accepted(certificates ...tls.Certificate) error {
	conn, err := r.tls(certificates...)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc")); err != nil {
		return err
	}
	ack := make([]byte, 4)
	if _, err := conn.Read(ack); err != nil {
		return err
	}
	if ack[3] != 0 {
		return fmt.Errorf("CONNACK is % x", ack)
	}
	return nil
}

// shown returns the serial number of the certificate that the listener tls shows.
func (r *keptRig) shown() string {
	conn, err := r.tls(r.pki.client("looker", r.pki.ca))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// Certificates, policy, limits and log level change under a stream at QoS 1, and nobody notices.
func TestReloadDisturbsNobody(t *testing.T) {
	for _, kind := range engines() {
		t.Run(string(kind), func(t *testing.T) {
			r := startKept(t, kind, nil)
			conn, err := r.tls(r.pki.client("one", r.pki.ca))
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Time{})
			end := stream(t, r.rig, conn)
			for i := range 8 {
				r.change(i)
				r.reload()
				if want := []slog.Level{slog.LevelDebug, slog.LevelInfo}[i%2]; r.level.Level() != want {
					t.Errorf("log level is %s, not %s", r.level.Level(), want)
				}
			}
			end()
			if strings.Contains(r.log.String(), "client disconnected") {
				t.Error("somebody was disconnected")
			}
		})
	}
}

// stream has messages at QoS 1 go to a subscriber over conn. end ends that, when all have come.
func stream(t testing.TB, r *rig, conn net.Conn) (end func()) {
	t.Helper()
	subscriber := connect["v5"](t, conn, "subscriber", "")
	t.Cleanup(func() { subscriber.close() })
	in := new(inbox)
	subscriber.subscribe(t, "stream/#", 1, in)
	publisher := connect["v3.1.1"](t, dial["plain"](t, r), "publisher", "")
	t.Cleanup(func() { publisher.close() })
	stop, sent := make(chan struct{}), make(chan int)
	go func() { sent <- streamUntil(t, publisher, stop) }()
	return func() {
		t.Helper()
		close(stop)
		count := <-sent
		t.Logf("%d messages", count)
		for i := range count {
			want := fmt.Sprintf("stream/x=message %d q1 rfalse", i)
			Await(t, want, func() bool { return in.has(want) })
		}
	}
}

// streamUntil publishes until it is stopped, and returns how many messages.
func streamUntil(t testing.TB, publisher mqttClient, stop chan struct{}) (count int) {
	for {
		select {
		case <-stop:
			return count
		default:
			publisher.publish(t, "stream/x", fmt.Sprint("message ", count), 1, false)
			count++
		}
	}
}

// change changes everything that may.
func (r *keptRig) change(i int) {
	r.pki.writeServer(time.Hour)
	r.write("policy.yaml", fmt.Sprintf("%s\n  - who: { user: u%d }\n    publish: [a]\n", strings.TrimRight(readAll(r.t, r.dir, "policy.yaml"), "\n"), i))
	text := strings.Replace(reloadFile, "max_inflight: 100", fmt.Sprintf("max_inflight: %d, max_packet_size: %d, max_connections: %d", 50+i, 1<<20+i, 1000+i), 1)
	text = strings.Replace(text, "$ENGINE", string(r.Config().Engine), 1)
	r.text = strings.Replace(text, "level: info", []string{"level: debug", "level: info"}[i%2], 1)
	r.write("vouchmq.yaml", r.text)
}

func readAll(t testing.TB, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReloadOfAnInvalidFileChangesNothing(t *testing.T) {
	r := startKept(t, server.Native, nil)
	before, serial := r.Config(), r.shown()
	good := r.text
	for _, test := range []struct{ name, from, to, want string }{
		{"no YAML", "tee: sim", "tee: [", "vouchmq.yaml:"},
		{"unknown key", "log: { level: info }", "log: { level: info, colour: red }", "vouchmq.yaml:6:21: log.colour"},
		{"missing file", "key: server.key", "key: other.key", "vouchmq.yaml:12:25: listeners[1].tls.certificate"},
		{"no policy", "policy: policy.yaml", "policy: other.yaml", "vouchmq.yaml:3:9: policy: open"},
		{"other service", "service: broker.plant.example", "service: other.plant.example", "vouchmq.yaml:2:10: service: this cannot be changed"},
		{"other engine", "engine: native", "engine: wasm", "vouchmq.yaml:5:9: engine: this cannot be changed"},
		{"other kind", "name: plain, kind: tcp", "name: plain, kind: tls", "vouchmq.yaml:8:26: listeners[0].kind: this cannot be changed"},
		{"address in use", `limits: { max_inflight: 100 }`, "limits: { max_inflight: 7 }", "address already in use"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.pki.writeServer(time.Hour) // it must not be taken over either
			r.edit(test.from, test.to)
			if test.name == "address in use" {
				r.edit("  - { name: plain,", fmt.Sprintf("  - { name: more, kind: tcp, address: %q }\n  - { name: plain,", r.Addr("plain")))
			}
			err := r.keeper.Reload(context.Background())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			if strings.HasPrefix(test.name, "other s") && !errors.Is(err, server.ErrFixed) {
				t.Errorf("error %v is no ErrFixed", err)
			}
			if !strings.Contains(r.log.String(), "RELOAD FAILED") || !strings.Contains(r.log.String(), test.want) {
				t.Error("the log does not say so")
			}
			now := r.Config()
			if now.Limits != before.Limits || now.Policy != before.Policy || len(now.Listeners) != len(before.Listeners) || r.shown() != serial {
				t.Error("something changed")
			}
			r.text = good
			r.write("vouchmq.yaml", good)
		})
	}
	r.reload()
	if r.shown() == serial {
		t.Error("a good file was not taken over afterwards")
	}
}

// A revoked client is refused, and its connection that lives is ended. A session ticket does not help it.
func TestRevokedClientIsRefused(t *testing.T) {
	r := startKept(t, server.Native, nil)
	one, two := r.pki.client("one", r.pki.ca), r.pki.client("two", r.pki.ca)
	cache := tls.NewLRUClientSessionCache(4)
	live, err := r.tlsWith(&tls.Config{Certificates: []tls.Certificate{two}, ClientSessionCache: cache})
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	ended := make(chan *paho5.Disconnect, 1)
	_ = live.SetReadDeadline(time.Time{})
	session := paho5.NewClient(paho5.ClientConfig{Conn: packets.NewThreadSafeConn(live), OnServerDisconnect: func(d *paho5.Disconnect) { ended <- d }})
	if _, err := session.Connect(context.Background(), &paho5.Connect{ClientID: "two", KeepAlive: 60, CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.accepted(one), r.accepted(two)); err != nil {
		t.Fatal(err)
	}
	r.pki.revoke(two)
	r.pki.writeList(time.Now().Add(time.Hour))
	r.keeper.Look(context.Background())
	select {
	case d := <-ended:
		if d.ReasonCode != 0x87 {
			t.Errorf("reason 0x%02x", d.ReasonCode)
		}
	case <-time.After(Patience):
		t.Error("the revoked client's connection stays")
		_ = live.Close()
	}
	<-session.Done()
	if err := r.accepted(one); err != nil {
		t.Errorf("the other client: %v", err)
	}
	if err := r.accepted(two); err == nil {
		t.Error("a revoked client was accepted")
	}
	if conn, err := r.tlsWith(&tls.Config{Certificates: []tls.Certificate{two}, ClientSessionCache: cache}); err == nil {
		if conn.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a revoked client was accepted with a ticket")
		}
		_ = conn.Close()
	}
	Await(t, "the log", func() bool { return strings.Contains(r.log.String(), "certificate has been revoked") })
}

func TestClientCertificates(t *testing.T) {
	r := startKept(t, server.Native, nil)
	other, err := owner.New("another CA", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if r.accepted() == nil {
		t.Error("a client without a certificate was accepted")
	}
	if r.accepted(r.pki.client("one", other)) == nil {
		t.Error("a certificate of another CA was accepted")
	}
	if r.accepted(r.pki.client("three", r.pki.ca)) == nil {
		t.Error("a user that no rule names was accepted")
	}
	r.edit("required: true", "required: false")
	r.reload()
	if err := r.accepted(); err != nil {
		t.Errorf("without a certificate where none is required: %v", err)
	}
	r.edit("required: false", "user: dns")
	r.reload()
	if r.accepted(r.pki.client("one", r.pki.ca)) == nil {
		t.Error("the user name is still the common name")
	}
}

func TestRevocationLists(t *testing.T) {
	r := startKept(t, server.Native, nil)
	one := r.pki.client("one", r.pki.ca)
	r.pki.writeList(time.Now().Add(-time.Hour))
	r.reload()
	if r.accepted(one) == nil {
		t.Error("with a list that is out of date a client was accepted")
	}
	if !strings.Contains(r.log.String(), "REVOCATION LIST IS OUT OF DATE") {
		t.Error("the log does not say so")
	}
	r.edit("crl: [clients.crl]", "crl: [clients.crl], crl_expired: allow")
	r.reload()
	if err := r.accepted(one); err != nil {
		t.Errorf("with crl_expired: allow: %v", err)
	}
	r.pki.write("clients.crl", r.pki.list(r.pki.ca, time.Now().Add(time.Hour))) // DER
	r.reload()
	other, err := owner.New("another CA", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	impostor, err := owner.New("CA of a test", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	delta := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}} // RFC 5280, section 5.2.4
	for name, list := range map[string][]byte{
		"that is a delta": r.pki.list(r.pki.ca, time.Now().Add(time.Hour), delta),
		"of an impostor":  r.pki.list(impostor, time.Now().Add(time.Hour)),
		"of another CA":   r.pki.list(other, time.Now().Add(time.Hour)), "damaged": []byte("x"), "a certificate": r.pki.ca.CertificatePEM(),
	} {
		r.pki.write("clients.crl", list)
		if err := r.keeper.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "crl[0]: revocation list") {
			t.Errorf("list %s: error %v", name, err)
		}
	}
	r.pki.writeList(time.Now().Add(time.Hour)) // a second CA has no list: its clients are refused
	r.pki.write("ca.pem", append(r.pki.ca.CertificatePEM(), other.CertificatePEM()...))
	r.reload()
	if err := r.accepted(one); err != nil {
		t.Error(err)
	}
	if r.accepted(r.pki.client("two", other)) == nil {
		t.Error("a client whose issuer has no list was accepted")
	}
}

// A pair of which one file is new is not used; once both are, it is.
func TestHalfWrittenPair(t *testing.T) {
	r := startKept(t, server.Native, nil)
	serial := r.shown()
	certificate, key, leaf := r.pki.server(time.Hour)
	r.pki.write("server.pem", certificate)
	r.keeper.Look(context.Background())
	r.keeper.Look(context.Background())
	if r.shown() != serial || strings.Count(r.log.String(), "CHANGED CERTIFICATE FILES ARE NOT USED") != 1 {
		t.Fatal("half a pair was used, or was not complained of once")
	}
	r.pki.write("server.key", key)
	r.keeper.Look(context.Background())
	if r.shown() != leaf.SerialNumber.String() {
		t.Fatal("the pair is not used")
	}
	if !strings.Contains(r.log.String(), fmt.Sprintf("certificate.serial=%x", leaf.SerialNumber)) {
		t.Error("the log does not name it")
	}
}

// Changed files are noticed by themselves: by being told, and without.
func TestKeeperNotices(t *testing.T) {
	for name, change := range map[string]func(*server.KeeperConfig){
		"told":   func(c *server.KeeperConfig) { c.Debounce, c.Poll = 10*time.Millisecond, time.Hour },
		"polled": func(c *server.KeeperConfig) { c.Debounce, c.Poll = time.Hour, 10*time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			r := startKept(t, server.Native, change)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); r.keeper.Run(ctx) }()
			defer func() { cancel(); <-done }()
			Await(t, "the watch to begin", r.watches)
			leaf := r.pki.writeServer(time.Hour)
			Await(t, "the new certificate", func() bool { return r.shown() == leaf.SerialNumber.String() })
		})
	}
}

// Files that a reload names are followed at once, in whatever folder they are.
func TestKeeperFollowsAReload(t *testing.T) {
	r := startKept(t, server.Native, func(c *server.KeeperConfig) { c.Debounce, c.Poll = 10*time.Millisecond, time.Hour })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.keeper.Run(ctx) }()
	defer func() { cancel(); <-done }()
	Await(t, "the watch to begin", r.watches)
	if err := os.Mkdir(filepath.Join(r.dir, "other"), 0o700); err != nil {
		t.Fatal(err)
	}
	before, beforeKey, _ := r.pki.server(time.Hour)
	r.pki.write("other/server.pem", before)
	r.pki.write("other/server.key", beforeKey)
	r.edit("certificate: server.pem, key: server.key", "certificate: other/server.pem, key: other/server.key")
	r.reload()
	one := r.pki.client("one", r.pki.ca)
	r.pki.revoke(one)
	r.pki.writeList(time.Now().Add(time.Hour)) // when this is noticed, all that happened in the first folder is over
	Await(t, "the list", func() bool { return r.accepted(one) != nil })
	certificate, key, leaf := r.pki.server(time.Hour)
	r.pki.write("other/server.pem", certificate)
	r.pki.write("other/server.key", key)
	Await(t, "the new certificate", func() bool { return r.shown() == leaf.SerialNumber.String() })
}

// A file that changes after it was read, and before the keeper is there, is noticed by the first look.
func TestChangeWhileStarting(t *testing.T) {
	var config server.KeeperConfig
	r := startKept(t, server.Native, func(c *server.KeeperConfig) { config = *c })
	one := r.pki.client("one", r.pki.ca)
	r.pki.revoke(one)
	r.pki.writeList(time.Now().Add(time.Hour))
	server.NewKeeper(config).Look(context.Background())
	if r.accepted(one) == nil {
		t.Error("a client was accepted that had been revoked when the keeper was made")
	}
}

// onLine does something when a line with a text is logged.
type onLine struct {
	io.Writer
	text string
	do   func()
}

func (o onLine) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(o.text)) {
		o.do()
	}
	return o.Writer.Write(b)
}

// Likewise the certificate of the state folder: it is replaced while the rest of the configuration is opened, and that the broker
// has made it itself is no change.
func TestStateChangesWhileStarting(t *testing.T) {
	file := writeFiles(t, goodFile)
	change := func() {}
	log := slog.New(slog.NewTextHandler(onLine{io.Discard, "TEE found", func() { change() }}, nil))
	looks := func(name string) *server.Opened {
		t.Helper()
		opened, err := openFile(file, server.Opening{Now: time.Now(), Log: log})
		if err != nil {
			t.Fatal(name, err)
		}
		return opened
	}
	if looks("first start").Changed() || looks("second").Changed() {
		t.Error("files have changed that nobody has touched")
	}
	change = func() {
		folder := filepath.Join(filepath.Dir(file), "state")
		if err := os.Remove(filepath.Join(folder, server.BrokerCertFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := server.OpenState(folder, "broker.plant.example", server.DefaultPublicName, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if !looks("third start").Changed() {
		t.Error("the certificate has changed after it was read, and nobody will notice")
	}
}

// watches reports whether a change of a file is noticed: the keeper complains of a list that is none.
func (r *keptRig) watches() bool {
	r.pki.write("clients.crl", []byte(time.Now().String()))
	defer r.pki.writeList(time.Now().Add(time.Hour))
	for range 50 {
		if strings.Contains(r.log.String(), "NOT USED") {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

func TestListenersComeAndGo(t *testing.T) {
	r := startKept(t, server.Native, nil)
	conn := dial["plain"](t, r.rig)
	defer conn.Close()
	hello(t, conn, "stays")
	listenTo(t, conn, "stays")
	old := r.Addr("plain").String()
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	r.edit(`{ name: plain, kind: tcp, address: "127.0.0.1:0" }`, fmt.Sprintf(`{ name: local, kind: tcp, address: "unix:%s", mode: "0600" }`, path))
	r.reload()
	if c, err := net.Dial("tcp", old); err == nil {
		_ = c.Close()
		t.Error("the listener that is gone accepts")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket %v, error %v", info, err)
	}
	local, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	hello(t, local, "comes")
	packet := publishPacket("stays", 1, 8)
	write(t, local, packet)
	expect(t, conn, len(packet))
	r.edit("  - { name: local", "  - { name: plain, kind: tcp, address: \"127.0.0.1:0\" }\n  - { name: local")
	r.reload()
	hello(t, dial["plain"](t, r.rig), "again")
	if r.Addr("none") != nil {
		t.Error("there is an address of no listener")
	}
}

// attested connects with evidence of the rig's device.
func (r *keptRig) attested(bundle *client.Bundle) (net.Conn, error) {
	conn, _, err := client.Dial(context.Background(), bundle, client.Options{
		Attester: sim.NewAttester(r.device, deviceModule), Identity: attest.Identity{Module: deviceModule},
	})
	return conn, err
}

// Who is attested is judged by the new policy at once; evidence names the new configuration from then on, and a
// bundle that pins the old one refuses.
func TestReloadOfThePolicyJudgesAnew(t *testing.T) {
	r := startKept(t, server.Native, nil)
	old := r.readBundle(t)
	conn, err := r.attested(old)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello(t, conn, "device")
	before := r.Identity()
	policy := readAll(t, r.dir, "policy.yaml")
	r.write("policy.yaml", policy+"  - who: { user: more }\n    publish: [a]\n")
	r.reload()
	listenTo(t, conn, "still/there")
	if r.Identity().Config == before.Config || r.Identity().Module != before.Module {
		t.Error("the identity is not that of the new policy")
	}
	if _, err := r.attested(old); !errors.Is(err, attest.ErrConfig) {
		t.Errorf("with the old bundle: error %v", err)
	}
	again, err := r.attested(r.readBundle(t))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	hello(t, again, "again")

	stranger, err := sim.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	r.write("policy.yaml", strings.Replace(policy, r.device.Digest().String(), stranger.Digest().String(), 1))
	r.reload()
	end(t, conn)
	end(t, again)
	if c, err := r.attested(r.readBundle(t)); err == nil {
		end(t, c)
	}
	Await(t, "the log to say so", func() bool {
		return strings.Contains(r.log.String(), "would not be let in any more") && strings.Contains(r.log.String(), "ended=2")
	})
	works(t, r.rig, "plain")
}

func TestExpiringCertificatesAreWarnedOf(t *testing.T) {
	r := startKept(t, server.Native, nil)
	if n := r.WarnExpiring(time.Now().Add(-48 * time.Hour * 20)); n != 0 {
		t.Errorf("%d warnings long before", n)
	}
	if n := r.WarnExpiring(time.Now()); n != 1 || !strings.Contains(r.log.String(), "CERTIFICATE EXPIRES SOON") {
		t.Errorf("%d warnings for a certificate of an hour", n)
	}
	if n := r.WarnExpiring(time.Now().Add(2 * time.Hour)); n != 2 || !strings.Contains(r.log.String(), "REVOCATION LIST IS OUT OF DATE") {
		t.Errorf("%d warnings for certificate and list", n)
	}
}

// Once a day, by the keeper's clock.
func TestKeeperWarnsOnceADay(t *testing.T) {
	now := time.Now()
	r := startKept(t, server.Native, func(c *server.KeeperConfig) { c.Now = func() time.Time { return now } })
	warnings := func() int { return strings.Count(r.log.String(), "CERTIFICATE EXPIRES SOON") }
	look := func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); r.keeper.Run(ctx) }()
		cancel()
		<-done
	}
	look()
	look()
	if n := warnings(); n != 1 {
		t.Fatalf("%d warnings in the same minute", n)
	}
	now = now.Add(25 * time.Hour)
	look()
	if n := warnings(); n != 2 {
		t.Fatalf("%d warnings after a day", n)
	}
}

// The certificate of the state folder is issued anew in time, and taken over.
func TestCertificateOfTheStateFolderIsRenewed(t *testing.T) {
	now := time.Now()
	r := startKept(t, server.Native, func(c *server.KeeperConfig) { c.Now = func() time.Time { return now } })
	loaded := func() int { return strings.Count(r.log.String(), "msg=\"certificate loaded\" listener=secure") }
	run := func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.keeper.Run(ctx)
		r.keeper.Look(context.Background())
	}
	run()
	if n := loaded(); n != 1 {
		t.Fatalf("loaded %d times while there is time", n)
	}
	now = now.Add(370 * 24 * time.Hour)
	run()
	if n := loaded(); n != 2 {
		t.Fatalf("loaded %d times after a year", n)
	}
}

func TestNotReadyWhileStopping(t *testing.T) {
	r := startKept(t, server.Native, nil)
	if !r.Ready() {
		t.Error("not ready after the start")
	}
	if err := r.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if r.Ready() || !errors.Is(r.Reload(context.Background(), r.Config()), server.ErrStopping) {
		t.Error("ready after the end, or a reload was taken")
	}
}
