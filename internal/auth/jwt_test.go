package auth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// issuer makes tokens.
type issuer struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

func newIssuer() *issuer {
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, err3 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		panic(err)
	}
	return &issuer{r, e, d}
}

// theIssuer is one for most tests: RSA keys take a while to make.
var theIssuer = sync.OnceValue(newIssuer)

func publicPEM(t testing.TB, keys ...crypto.Signer) string {
	t.Helper()
	var b bytes.Buffer
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		pem.Encode(&b, &pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	return b.String()
}

// jwks is a JWK set of the public keys, by their ids.
func jwks(t testing.TB, keys map[string]crypto.Signer) string {
	t.Helper()
	var set jwkset.JWKSMarshal
	for id, k := range keys {
		j, err := jwkset.NewJWKFromKey(k.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: id}})
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, j.Marshal())
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var tokenTime = time.Unix(1_800_000_000, 0) // of the clock in the tests' hands

type claims = jwt.MapClaims

// with gives good claims with changes; nil removes one.
func with(changes claims) claims {
	c := claims{"sub": "alice", "exp": tokenTime.Add(time.Hour).Unix(), "iss": "https://issuer", "aud": []string{"mqtt", "web"}}
	for k, v := range changes {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func sign(t testing.TB, method jwt.SigningMethod, key any, kid string, c claims) []byte {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

func tokens(t testing.TB, c JWT, options ...Option) *Authenticator {
	t.Helper()
	return open(t, Config{Sources: []Source{{JWT: &c}}}, append([]Option{WithClock(newHandClock())}, options...)...)
}

func TestTokenAlgorithms(t *testing.T) {
	i := theIssuer()
	keys := writeFile(t, "keys.pem", publicPEM(t, i.rsa, i.ec, i.ed))
	set := writeFile(t, "keys.json", jwks(t, map[string]crypto.Signer{"r": i.rsa, "e": i.ec, "d": i.ed}))
	for _, file := range []string{keys, set} {
		a := tokens(t, JWT{Keys: file, Algorithms: []string{"RS256", "PS384", "ES256", "EdDSA"}})
		for _, good := range []struct {
			method jwt.SigningMethod
			key    any
			kid    string
		}{{jwt.SigningMethodRS256, i.rsa, "r"}, {jwt.SigningMethodPS384, i.rsa, ""}, {jwt.SigningMethodES256, i.ec, "e"}, {jwt.SigningMethodEdDSA, i.ed, "d"}} {
			expect(t, a, Client{}, connect("alice", sign(t, good.method, good.key, good.kid, with(nil))), mqtt.Success, "alice")
		}
		public, _ := os.ReadFile(keys)
		other := newIssuer()
		for name, bad := range map[string][]byte{
			"an algorithm that is not named":   sign(t, jwt.SigningMethodRS512, i.rsa, "r", with(nil)),
			"no algorithm":                     sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", with(nil)),
			"the public key taken as a secret": sign(t, jwt.SigningMethodHS256, public, "", with(nil)),
			"another key":                      sign(t, jwt.SigningMethodES256, other.ec, "", with(nil)),
		} {
			if code, _ := a.Login(Client{}).Step(context.Background(), connect("alice", bad)); code != mqtt.BadUserNameOrPassword {
				t.Errorf("%s: %s", name, code)
			}
		}
	}
	unknown := sign(t, jwt.SigningMethodES256, i.ec, "unknown", with(nil))
	expect(t, tokens(t, JWT{Keys: set, Algorithms: []string{"ES256"}}), Client{}, connect("alice", unknown), mqtt.BadUserNameOrPassword, "")
}

func TestTokenClaims(t *testing.T) {
	i := theIssuer()
	keys := writeFile(t, "keys.pem", publicPEM(t, i.ec))
	strict := tokens(t, JWT{Keys: keys, Algorithms: []string{"ES256"}, Issuer: "https://issuer", Audience: []string{"other", "mqtt"}})
	lenient := tokens(t, JWT{Keys: keys, Algorithms: []string{"ES256"}, Leeway: time.Minute, UserClaim: "name", AnyUserName: true})
	at := func(d time.Duration) int64 { return tokenTime.Add(d).Unix() }
	for _, c := range []struct {
		a      *Authenticator
		user   string
		claims claims
		code   mqtt.ReasonCode
		as     string
	}{
		{strict, "alice", with(nil), mqtt.Success, "alice"},
		{strict, "", with(nil), mqtt.Success, "alice"},
		{strict, "bob", with(nil), mqtt.BadUserNameOrPassword, ""},
		{strict, "alice", with(claims{"exp": nil}), mqtt.BadUserNameOrPassword, ""},
		{strict, "alice", with(claims{"exp": at(-time.Second)}), mqtt.BadUserNameOrPassword, ""},
		{strict, "alice", with(claims{"exp": "tomorrow"}), mqtt.BadUserNameOrPassword, ""},
		{strict, "alice", with(claims{"nbf": at(time.Second)}), mqtt.BadUserNameOrPassword, ""},
		{strict, "alice", with(claims{"iss": "https://other"}), mqtt.BadUserNameOrPassword, ""},
		{strict, "alice", with(claims{"iss": nil}), mqtt.BadUserNameOrPassword, ""},
		{strict, "alice", with(claims{"aud": "web"}), mqtt.BadUserNameOrPassword, ""},
		{strict, "alice", with(claims{"aud": nil}), mqtt.BadUserNameOrPassword, ""},
		{strict, "", with(claims{"sub": nil}), mqtt.BadUserNameOrPassword, ""},
		{strict, "", with(claims{"sub": ""}), mqtt.BadUserNameOrPassword, ""},
		{strict, "", with(claims{"sub": 7}), mqtt.BadUserNameOrPassword, ""},
		{strict, "", with(claims{"sub": "a\x00b"}), mqtt.BadUserNameOrPassword, ""},
		{lenient, "bob", with(claims{"name": "carol", "iss": nil, "aud": nil}), mqtt.Success, "carol"},
		{lenient, "", with(claims{"name": "carol", "exp": at(-30 * time.Second)}), mqtt.Success, "carol"},
		{lenient, "", with(claims{"name": "carol", "exp": at(-90 * time.Second)}), mqtt.BadUserNameOrPassword, ""},
	} {
		expect(t, c.a, Client{}, connect(c.user, sign(t, jwt.SigningMethodES256, i.ec, "", c.claims)), c.code, c.as)
	}
}

func TestCriticalExtensionsAreRefused(t *testing.T) {
	i := theIssuer()
	a := tokens(t, JWT{Keys: writeFile(t, "keys.pem", publicPEM(t, i.ec)), Algorithms: []string{"ES256"}})
	token := jwt.NewWithClaims(jwt.SigningMethodES256, with(nil))
	token.Header["crit"] = []string{"exp"}
	text, err := token.SignedString(i.ec)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, a, Client{}, connect("alice", []byte(text)), mqtt.BadUserNameOrPassword, "")
}

func TestTokenWithSecret(t *testing.T) {
	secret := strings.Repeat("s", 32)
	a := tokens(t, JWT{Secret: writeFile(t, "secret", secret+"\n"), Algorithms: []string{"HS256"}})
	expect(t, a, Client{}, connect("alice", sign(t, jwt.SigningMethodHS256, []byte(secret), "", with(nil))), mqtt.Success, "alice")
	expect(t, a, Client{}, connect("alice", sign(t, jwt.SigningMethodHS256, []byte(secret+"s"), "", with(nil))), mqtt.BadUserNameOrPassword, "")
	expect(t, a, Client{}, connect("alice", sign(t, jwt.SigningMethodHS512, []byte(secret), "", with(nil))), mqtt.BadUserNameOrPassword, "")
	if _, err := New(Config{Sources: []Source{{JWT: &JWT{Secret: writeFile(t, "s", "short"), Algorithms: []string{"HS256"}}}}}); err == nil {
		t.Error("a short secret is accepted")
	}
}

// TestTokenOrPassword: what is no token is left to the next source; a wrong token is not.
func TestTokenOrPassword(t *testing.T) {
	i := theIssuer()
	j := Source{JWT: &JWT{Keys: writeFile(t, "keys.pem", publicPEM(t, i.ec)), Algorithms: []string{"ES256"}}}
	token := sign(t, jwt.SigningMethodES256, newIssuer().ec, "", with(nil))
	file := writeFile(t, "p", argon2(t, "alice", "a.b.c")+argon2(t, "bob", string(token)))
	a := open(t, Config{Sources: []Source{j, {Passwords: &Passwords{File: file}}}})
	expect(t, a, Client{}, connect("alice", []byte("a.b.c")), mqtt.Success, "alice")
	expect(t, a, Client{}, connect("bob", token), mqtt.BadUserNameOrPassword, "")
}

func TestTokenAsUserName(t *testing.T) {
	i := theIssuer()
	c := JWT{Keys: writeFile(t, "keys.pem", publicPEM(t, i.ec)), Algorithms: []string{"ES256"}, From: "user_name"}
	a, _, log := guarded(t, Config{Sources: []Source{{JWT: &c}}}, 100)
	c2 := with(claims{"exp": time.Now().Add(time.Hour).Unix()})
	expect(t, a, Client{}, connect(string(sign(t, jwt.SigningMethodES256, i.ec, "", c2)), nil), mqtt.Success, "alice")
	bad := string(sign(t, jwt.SigningMethodES256, newIssuer().ec, "", c2))
	expect(t, a, Client{}, connect(bad, nil), mqtt.BadUserNameOrPassword, "")
	if text := log.String(); strings.Contains(text, bad[:8]) || !strings.Contains(text, "wrong signature") {
		t.Errorf("the log tells a token, or not what is wrong:\n%s", text)
	}
}

func TestKeyFiles(t *testing.T) {
	i := theIssuer()
	private, _ := x509.MarshalPKCS8PrivateKey(i.ec)
	for name, c := range map[string]struct{ text, want string }{
		"empty":         {"", "0 keys"},
		"a private key": {"\n\n" + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), "from line 3 on"},
		"a broken key":  {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "PUBLIC KEY"},
		"no keys":       {`{"keys":[]}`, "no public key"},
		"a secret":      {`{"keys":[{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0","kid":"1"}]}`, "no public key"},
		"broken JSON":   {`{"keys":`, "JSON"},
		"encryption":    {strings.Replace(jwks(t, map[string]crypto.Signer{"e": i.ec}), `"kid"`, `"use":"enc","kid"`, 1), "no public key"},
	} {
		_, err := New(Config{Sources: []Source{{JWT: &JWT{Keys: writeFile(t, "keys", c.text), Algorithms: []string{"ES256"}}}}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

// keyServer serves a JWK set that a test can change.
type keyServer struct {
	mu    sync.Mutex
	text  string // "" is status 500
	asked int
}

func (s *keyServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.text == "" {
		w.WriteHeader(http.StatusInternalServerError)
	}
	w.Write([]byte(s.text))
}

func (s *keyServer) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

func (s *keyServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func TestRemoteKeys(t *testing.T) {
	old, fresh := theIssuer(), newIssuer()
	server := &keyServer{}
	clock := newHandClock()
	c := Config{Sources: []Source{{JWT: &JWT{URL: serve(t, server), Algorithms: []string{"ES256"}}}}}
	a := open(t, c, WithClock(clock), WithLog(slog.New(slog.DiscardHandler)))
	// The tokens are good for as long as the clock of this test goes.
	lasting := with(claims{"exp": tokenTime.Add(1000 * time.Hour).Unix()})
	first := connect("alice", sign(t, jwt.SigningMethodES256, old.ec, "1", lasting))
	second := connect("alice", sign(t, jwt.SigningMethodES256, fresh.ec, "2", lasting))

	// The issuer cannot be reached at first.
	testkit.Await(t, "the first attempt", func() bool { return server.count() == 1 })
	expect(t, a, Client{}, first, mqtt.ServerUnavailable, "")
	server.set(jwks(t, map[string]crypto.Signer{"1": old.ec}))
	expect(t, a, Client{}, first, mqtt.ServerUnavailable, "") // it is not asked again so soon
	if n := server.count(); n != 1 {
		t.Fatalf("%d requests within a minute", n)
	}
	clock.pass(soonest)
	expect(t, a, Client{}, first, mqtt.Success, "alice")
	expect(t, a, Client{}, second, mqtt.BadUserNameOrPassword, "")

	// A new key is fetched when it is first met, even before it is time.
	server.set(jwks(t, map[string]crypto.Signer{"2": fresh.ec}))
	clock.pass(soonest)
	expect(t, a, Client{}, second, mqtt.Success, "alice")
	expect(t, a, Client{}, first, mqtt.BadUserNameOrPassword, "") // the old one is no longer valid

	// When the issuer is away, the last good keys stay; also over a reload.
	server.set("")
	n := server.count()
	clock.pass(defaultRefresh)
	testkit.Await(t, "an attempt when it is time", func() bool { return server.count() > n })
	expect(t, a, Client{}, second, mqtt.Success, "alice")
	server.set("{}")
	if err := a.Reload(c); err != nil {
		t.Fatal(err)
	}
	expect(t, a, Client{}, second, mqtt.Success, "alice")
}

func TestRemoteKeysGoWithTheirSource(t *testing.T) {
	a := open(t, Config{Sources: []Source{{JWT: &JWT{URL: serve(t, &keyServer{}), Algorithms: []string{"ES256"}}}}})
	keys := a.state.Load().keySets()[0]
	if err := a.Reload(Config{}); err != nil {
		t.Fatal(err)
	}
	if keys.ctx.Err() == nil {
		t.Error("keys are still fetched that nobody needs")
	}
}

func FuzzToken(f *testing.F) {
	secret := []byte(strings.Repeat("s", 32))
	a := tokens(f, JWT{Secret: writeFile(f, "secret", string(secret)), Algorithms: []string{"HS256"}})
	f.Add(sign(f, jwt.SigningMethodHS256, secret, "", with(nil)), false)
	f.Add([]byte(`{"alg":"HS256","crit":["x"]}`), true)
	f.Add([]byte(`{"sub":"alice","exp":1e400}`), true)
	f.Add([]byte(`{"sub":"alice","exp":9999999999,"aud":[1,null]}`), true)
	f.Fuzz(func(t *testing.T, text []byte, signed bool) {
		token := text
		if signed { // the text is the claims, behind a right header and before a right signature
			head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString(text)
			signature, err := jwt.SigningMethodHS256.Sign(head, secret)
			if err != nil {
				t.Fatal(err)
			}
			token = []byte(head + "." + base64.RawURLEncoding.EncodeToString(signature))
		}
		code, answer := a.Login(Client{}).Step(context.Background(), connect("", token))
		if code == mqtt.Success && !validUser(answer.User) {
			t.Errorf("%q is let in as %q", text, answer.User)
		}
	})
}

func FuzzKeys(f *testing.F) {
	i := theIssuer()
	f.Add([]byte(publicPEM(f, i.rsa, i.ed)))
	f.Add([]byte(jwks(f, map[string]crypto.Signer{"1": i.ec})))
	f.Fuzz(func(_ *testing.T, text []byte) {
		parsePEM(text)
		parseJWKs(text)
	})
}
