package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/internal/auth/passwords"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// loginFile has a listener of each sort. What a test needs besides stands behind it.
const loginFile = `
service: broker.plant.example
policy: policy.yaml
tee: sim
engine: $ENGINE
log: { level: debug, redact: false }
listeners:
  - { name: plain, kind: tcp, address: "127.0.0.1:0" }
  - { name: open, kind: tcp, address: "127.0.0.1:0" }
  - { name: tls, kind: tls, address: "127.0.0.1:0", tls: { certificate: server.pem, key: server.key } }
  - name: certified
    kind: tls
    address: "127.0.0.1:0"
    tls: { certificate: server.pem, key: server.key }
    client_certificates: { ca: ca.pem, crl: [clients.crl], required: true }
  - { name: secure, kind: attested, address: "127.0.0.1:0" }
  - { name: web, kind: ws, address: "127.0.0.1:0" }
  - { name: proxied, kind: tcp, address: "127.0.0.1:0", proxy_protocol: { from: ["127.0.0.0/8"] } }
`

const loginPolicy = `
version: 1
identities:
  device:
    module: [$MODULE]
    simulated: allow
    any_of: [{ sim: { key: [$KEY] } }]
rules:
  - who: { user: alice }
    publish: ["users/%u/#"]
    subscribe: ["users/%u/#"]
  - who: [{ user: bob }, { user: carol }, { user: dave }, { user: erin }]
    publish: ["users/%u/#", "shared/#"]
    subscribe: ["users/%u/#", "shared/#"]
  - who: [{ anonymous: true, listener: open }, device]
    publish: ["public/#"]
    subscribe: ["public/#"]
`

// startLogins starts a broker with loginFile, and more in it. files stand beside it.
func startLogins(t testing.TB, kind server.Engine, more string, files map[string]string) *keptRig {
	t.Helper()
	r := &keptRig{rig: &rig{log: &Buffer{}}, t: t, dir: t.TempDir(), level: new(slog.LevelVar)}
	r.pki = newPKI(t, r.dir)
	r.pki.writeServer(time.Hour)
	r.pki.writeList(time.Now().Add(time.Hour))
	for name, text := range files {
		r.write(name, text)
	}
	r.text = strings.Replace(loginFile, "$ENGINE", string(kind), 1) + more
	r.write("vouchmq.yaml", r.text)
	r.device = newDevice(t)
	r.write("policy.yaml", strings.NewReplacer("$KEY", r.device.Digest().String(), "$MODULE", deviceModule.String()).Replace(loginPolicy))
	r.run(kind, nil)
	return r
}

// dial connects to a listener, without MQTT.
func (r *keptRig) dial(listener string, certificates ...tls.Certificate) net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.Addr(listener).String())
	if err != nil {
		r.t.Fatal(err)
	}
	switch listener {
	case "tls", "certified":
		return tls.Client(conn, &tls.Config{RootCAs: owner.Pool(r.pki.ca.Certificate()), ServerName: "127.0.0.1", Certificates: certificates})
	}
	return conn
}

// entrant is a client that wants to be let in.
type entrant struct {
	id             string
	user, password string // "" is none
}

// noAnswer is the code of a client that gets no CONNACK.
const noAnswer = 0xFF

// enter connects as somebody, one function for each library, and returns the code of CONNACK, and the client if it was let in.
var enter = map[string]func(t testing.TB, conn net.Conn, who entrant) (byte, mqttClient){"v5": enter5, "v3.1.1": enter3}

func enter5(t testing.TB, conn net.Conn, who entrant) (byte, mqttClient) {
	t.Helper()
	c := newClient5(conn, paho5.ClientConfig{})
	packet := &paho5.Connect{ClientID: who.id, CleanStart: true, KeepAlive: 30, Username: who.user, UsernameFlag: who.user != "",
		Password: []byte(who.password), PasswordFlag: who.password != ""}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	ack, err := c.Connect(ctx, packet)
	switch {
	case err == nil:
		return 0, c
	case ack == nil:
		return noAnswer, nil
	}
	return ack.ReasonCode, nil
}

// newClient5 is connect5 before it connects.
func newClient5(conn net.Conn, config paho5.ClientConfig) *client5 {
	c := &client5{conn: conn}
	config.Conn, config.PacketTimeout = packets.NewThreadSafeConn(conn), Patience
	config.OnPublishReceived = []func(paho5.PublishReceived) (bool, error){func(p paho5.PublishReceived) (bool, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, in := range c.in {
			in.add(p.Packet.Topic, p.Packet.Payload, p.Packet.QoS, p.Packet.Retain)
		}
		return true, nil
	}}
	c.Client = paho5.NewClient(config)
	return c
}

func enter3(t testing.TB, conn net.Conn, who entrant) (byte, mqttClient) {
	t.Helper()
	o := paho3.NewClientOptions().AddBroker("tcp://unused:1").SetClientID(who.id).SetProtocolVersion(4).
		SetAutoReconnect(false).SetCleanSession(true).SetUsername(who.user).SetPassword(who.password)
	o.CustomOpenConnectionFn = func(*url.URL, paho3.ClientOptions) (net.Conn, error) { return conn, nil }
	c := &client3{paho3.NewClient(o), conn}
	token, ok := c.Connect().(*paho3.ConnectToken)
	if !ok || !token.WaitTimeout(Patience) {
		t.Fatal("no end of the attempt to connect")
	}
	if token.Error() == nil {
		return 0, c
	}
	if code := token.ReturnCode(); code != 0 && code <= 5 {
		return code, nil
	}
	return noAnswer, nil
}

// code is what both libraries are told: of MQTT 3.1.1 and of MQTT 5.
type code struct{ v3, v5 byte }

var (
	letIn       = code{0, 0}
	bad         = code{4, 0x86}
	unknown     = code{5, 0x87}
	notNow      = code{3, 0x88}
	ignored     = code{noAnswer, noAnswer}
	codeVersion = map[string]func(c code) byte{"v5": func(c code) byte { return c.v5 }, "v3.1.1": func(c code) byte { return c.v3 }}
)

// tries has both libraries connect, and end the connection.
func (r *keptRig) tries(listener string, who entrant, want code, certificates ...tls.Certificate) {
	r.t.Helper()
	for version, enter := range enter {
		got, c := enter(r.t, r.dial(listener, certificates...), who)
		if c != nil {
			c.close()
		}
		if want := codeVersion[version](want); got != want {
			r.t.Errorf("%s to %s as %q with %q: code 0x%02x, want 0x%02x", version, listener, who.user, who.password, got, want)
		}
	}
}

// mayPublish tells whether MQTT 5 clients of somebody may publish.
func (r *keptRig) mayPublish(listener string, who entrant, topic string) bool {
	r.t.Helper()
	got, c := enter5(r.t, r.dial(listener), who)
	if c == nil {
		r.t.Fatalf("%+v is not let in: 0x%02x", who, got)
	}
	defer c.close()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	_, err := c.(*client5).Publish(ctx, &paho5.Publish{Topic: topic, QoS: 1})
	return err == nil
}

// hashed is a line of a password file that is quick to check.
func hashed(t testing.TB, user, password string) string {
	t.Helper()
	hash, err := passwords.HashArgon2([]byte(password), passwords.Argon2Params{Memory: 64, Time: 1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return user + ":" + hash + "\n"
}

// verifier is a line of a password file for SCRAM.
func verifier(t testing.TB, user, password string) string {
	t.Helper()
	hash, err := passwords.HashSCRAM([]byte(password), 4096)
	if err != nil {
		t.Fatal(err)
	}
	return user + ":" + hash + "\n"
}

// theirs is a line that mosquitto_passwd makes, or made.
func theirs(t testing.TB, user, password string) string {
	t.Helper()
	tool, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		return user + ":$6$7qenIu4F59KJvFRa$zjWZxmZRC9Te4NDdErR1VgOgjoWYR6NWDHlrhyN1Da82MIwu7UYpZWtyUfWtbJgENLo8wIkGMlH9IeiebxqYMw==\n"
	}
	file := filepath.Join(t.TempDir(), "theirs")
	if out, err := exec.Command(tool, "-c", "-b", file, user, password).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const withPasswords = `
authentication:
  anonymous: [open]
  sources: [{ passwords: { file: users } }]
guard: { exempt: [127.0.0.0/8] }
`

const bcryptLine = "dave:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n" // U*U

// Passwords as vouchmq, Mosquitto and htpasswd hash them, with both libraries, over TCP and TLS.
func TestPasswordFile(t *testing.T) {
	for _, kind := range engines() {
		t.Run(string(kind), func(t *testing.T) {
			users := hashed(t, "alice", "correct horse") + theirs(t, "bob", "secret") + bcryptLine + verifier(t, "erin", "only scram") + hashed(t, "nobody", "x")
			r := startLogins(t, kind, withPasswords, map[string]string{"users": users})
			for _, listener := range []string{"plain", "tls", "open"} {
				r.tries(listener, entrant{"c", "alice", "correct horse"}, letIn)
				r.tries(listener, entrant{"c", "bob", "secret"}, letIn)
				r.tries(listener, entrant{"c", "dave", "U*U"}, letIn)
				r.tries(listener, entrant{"c", "erin", "only scram"}, letIn)
				r.tries(listener, entrant{"c", "alice", "wrong"}, bad)
				r.tries(listener, entrant{"c", "mallory", "wrong"}, bad)
				r.tries(listener, entrant{"c", "alice", ""}, bad)
				r.tries(listener, entrant{"c", "nobody", "x"}, unknown) // no rule is for this user
			}
			r.tries("plain", entrant{id: "c"}, unknown)
			r.tries("open", entrant{id: "c"}, letIn)
			for topic, want := range map[string]bool{"users/alice/x": true, "users/bob/x": false, "shared/x": false, "public/x": false} {
				if got := r.mayPublish("plain", entrant{"c", "alice", "correct horse"}, topic); got != want {
					t.Errorf("alice may publish to %s: %v", topic, got)
				}
			}
			if strings.Contains(r.log.String(), "correct horse") || !strings.Contains(r.log.String(), `msg="login failed" address=127.0.0.1 listener=tls user=alice client_id=c reason="wrong password"`) {
				t.Error("the log has a password, or not the failed logins")
			}
		})
	}
}

func TestPasswordsAreReloaded(t *testing.T) {
	r := startLogins(t, server.Native, withPasswords, map[string]string{"users": hashed(t, "alice", "first")})
	_, stays := enter5(t, r.dial("plain"), entrant{"stays", "alice", "first"})
	if stays == nil {
		t.Fatal("not let in")
	}
	defer stays.close()
	in := new(inbox)
	stays.subscribe(t, "users/alice/#", 1, in)

	r.write("users", hashed(t, "alice", "second")+hashed(t, "bob", "b"))
	r.tries("plain", entrant{"c", "alice", "first"}, letIn)
	r.reload()
	r.tries("plain", entrant{"c", "alice", "first"}, bad)
	r.tries("plain", entrant{"c", "alice", "second"}, letIn)
	r.tries("plain", entrant{"c", "bob", "b"}, letIn)

	good := readAll(t, r.dir, "users")
	r.write("users", "# users\n"+hashed(t, "alice", "third")+"bob:b\n")
	err := r.keeper.Reload(context.Background())
	if err == nil || !strings.Contains(err.Error(), "users:3: ") || strings.Contains(err.Error(), "bob:b") {
		t.Errorf("error %v", err)
	}
	r.tries("plain", entrant{"c", "alice", "second"}, letIn)
	r.tries("plain", entrant{"c", "alice", "third"}, bad)

	r.write("users", good)
	r.edit("authentication:", "authentication: # changed\n  max_hashes: 1000")
	if err := r.keeper.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "vouchmq.yaml:") || !strings.Contains(err.Error(), "max_hashes") {
		t.Errorf("error %v", err)
	}
	r.tries("plain", entrant{"c", "alice", "second"}, letIn)
	stays.publish(t, "users/alice/x", "still here", 1, false)
	Await(t, "the message", func() bool { return in.has("users/alice/x=still here q1 rfalse") })
}

// A certificate that is renewed is taken over by itself; a password file that somebody works on waits for a reload.
func TestRenewedCertificateLeavesPasswordsAlone(t *testing.T) {
	r := startLogins(t, server.Native, withPasswords, map[string]string{"users": hashed(t, "alice", "first") + verifier(t, "alice", "first")})
	for _, users := range []string{"alice:damaged\n", hashed(t, "alice", "second")} {
		r.write("users", users)
		leaf := r.pki.writeServer(time.Hour)
		r.keeper.Look(context.Background())
		if got := r.shown(); got != leaf.SerialNumber.String() {
			t.Errorf("the listener shows the certificate %s, not the new one", got)
		}
		r.tries("plain", entrant{"c", "alice", "first"}, letIn)
		c, ack := scramClient(t, r.dial("tls"), &scramAuther{user: "alice", password: "first"}, scramMethod)
		if ack.ReasonCode != 0 {
			t.Fatalf("SCRAM: code 0x%02x", ack.ReasonCode)
		}
		c.close()
	}
	r.reload()
	r.tries("plain", entrant{"c", "alice", "second"}, letIn)
}

func TestCertificatesAndPasswords(t *testing.T) {
	const config = `
authentication:
  sources:
    - certificate: {}
    - passwords: { file: users }
guard: { exempt: [127.0.0.0/8] }
`
	r := startLogins(t, server.Native, config, map[string]string{"users": hashed(t, "alice", "a")})
	bob, alice, other := r.pki.client("bob", r.pki.ca), r.pki.client("alice", r.pki.ca), r.pki.client("stranger", r.pki.ca)
	r.tries("certified", entrant{id: "c"}, letIn, bob)
	r.tries("certified", entrant{"c", "bob", ""}, letIn, bob)
	r.tries("certified", entrant{"c", "alice", "a"}, bad, bob) // the certificate decides
	r.tries("certified", entrant{id: "c"}, unknown, other)
	r.tries("certified", entrant{id: "c"}, ignored)
	r.tries("tls", entrant{"c", "alice", "a"}, letIn)
	r.tries("tls", entrant{id: "c"}, unknown)
	r.pki.revoke(bob)
	r.pki.writeList(time.Now().Add(time.Hour))
	r.reload()
	r.tries("certified", entrant{id: "c"}, ignored, bob)
	r.tries("certified", entrant{id: "c"}, letIn, alice)
}

// Where no source asks for it, a certificate lets a client in to log in, and makes it nobody.
func TestCertificateThatNoSourceAsksFor(t *testing.T) {
	const config = `
authentication:
  anonymous: [certified]
  sources: [{ passwords: { file: users } }]
guard: { exempt: [127.0.0.0/8] }
`
	r := startLogins(t, server.Native, config, map[string]string{"users": hashed(t, "alice", "a")})
	bob := r.pki.client("bob", r.pki.ca)
	r.tries("certified", entrant{id: "c"}, unknown, bob) // as nobody, whom no rule on this listener is for
	_, c := enter5(t, r.dial("certified", bob), entrant{"c", "alice", "a"})
	if c == nil {
		t.Fatal("not let in with a password")
	}
	defer c.close()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for topic, want := range map[string]bool{"users/alice/x": true, "users/bob/x": false} {
		if _, err := c.(*client5).Publish(ctx, &paho5.Publish{Topic: topic, QoS: 1}); (err == nil) != want {
			t.Errorf("%s: %v", topic, err)
		}
	}
}

// Wrong passwords of many do not hold up those who are in, however dear their check is: the hashes are made beside the
// steps of the core, two at a time.
func TestSlowHashesStallNobody(t *testing.T) {
	slow, err := passwords.HashArgon2([]byte("slow"), passwords.Argon2Params{Memory: 65536, Time: 8, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := startLogins(t, server.Native, withPasswords+"limits: { connect_timeout: 5m }\n",
		map[string]string{"users": "bob:" + slow + "\n" + hashed(t, "alice", "a")})
	_, c := enter5(t, r.dial("open"), entrant{id: "in"})
	if c == nil {
		t.Fatal("not let in")
	}
	defer c.close()
	const attempts = 4
	ends := make(chan byte, attempts)
	for i := range attempts {
		go func() {
			got, _ := enter5(t, r.dial("plain"), entrant{fmt.Sprint("guess", i), "bob", "wrong"})
			ends <- got
		}()
	}
	Await(t, "the logins", func() bool { return stats(t, r.rig).Transport.Accepted == attempts+1 })
	published := 0
	for ; len(ends) == 0; published++ {
		c.publish(t, "public/x", "x", 1, false)
	}
	if published < 4 { // were the hashes made within steps, each message would wait for one at least
		t.Errorf("only %d messages came through before the first password was checked", published)
	}
	for range attempts {
		if got := <-ends; got != 0x86 {
			t.Errorf("code 0x%02x", got)
		}
	}
}

// A check tells of every source what is wrong with it, and where it stands.
func TestCheckOfAllSources(t *testing.T) {
	dir := t.TempDir()
	const text = `service: a.example
policy: policy.yaml
tee: sim
listeners: [{ name: plain, kind: tcp, address: "127.0.0.1:0" }]
authentication:
  sources:
    - passwords: { file: users }
    - certificate: {}
    - jwt: { algorithms: [HS256], secret: token-secret }
`
	for name, content := range map[string]string{"vouchmq.yaml": text, "policy.yaml": "version: 1\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := readSettings(filepath.Join(dir, "vouchmq.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	problems := server.Check(s, server.Opening{Now: time.Now(), Dir: dir})
	if text := problems.Error(); len(problems) != 2 || !strings.Contains(text, "vouchmq.yaml:7:16: authentication.sources[0]") || !strings.Contains(text, "vouchmq.yaml:9:10: authentication.sources[2]") {
		t.Error(text)
	}
}
