package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/vouchmq/vouchmq/internal/server"
)

// tokenKey is the key of an issuer of tokens, and its public part as PEM.
func tokenKey(t testing.TB) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// token is one of alice's, with changes to its claims.
func token(t testing.TB, key *ecdsa.PrivateKey, changes jwt.MapClaims) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "iss": "https://login.example", "aud": "mqtt"}
	for k, v := range changes {
		claims[k] = v
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTokens(t *testing.T) {
	const config = `
authentication:
  sources:
    - jwt: { algorithms: [ES256], keys: issuer.pem, issuer: "https://login.example", audience: [mqtt] }
    - passwords: { file: users }
guard: { exempt: [127.0.0.0/8] }
`
	key, public := tokenKey(t)
	stranger, other := tokenKey(t)
	r := startLogins(t, server.Native, config, map[string]string{"issuer.pem": public, "users": hashed(t, "bob", "b")})
	good := token(t, key, nil)
	r.tries("plain", entrant{"c", "alice", good}, letIn)
	r.tries("tls", entrant{"c", "alice", good}, letIn)
	r.tries("plain", entrant{"c", "bob", good}, bad)
	r.tries("plain", entrant{"c", "bob", "b"}, letIn) // the next source
	r.tries("plain", entrant{"c", "alice", token(t, key, jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()})}, bad)
	r.tries("plain", entrant{"c", "alice", token(t, key, jwt.MapClaims{"nbf": time.Now().Add(time.Hour).Unix()})}, bad)
	r.tries("plain", entrant{"c", "alice", token(t, key, jwt.MapClaims{"aud": "web"})}, bad)
	r.tries("plain", entrant{"c", "alice", token(t, key, jwt.MapClaims{"iss": "https://other.example"})}, bad)
	r.tries("plain", entrant{"c", "alice", token(t, stranger, nil)}, bad)
	if !r.mayPublish("plain", entrant{"c", "alice", good}, "users/alice/x") {
		t.Error("alice may not publish to her topic")
	}
	if code, c := enter5(t, r.dial("plain"), entrant{"c", "", good}); code != 0 { // a password without a user name
		t.Errorf("without user name: code 0x%02x", code)
	} else {
		c.close()
	}

	r.write("issuer.pem", other)
	r.reload()
	r.tries("plain", entrant{"c", "alice", good}, bad)
	r.tries("plain", entrant{"c", "alice", token(t, stranger, nil)}, letIn)
	if parts := strings.Split(good, "."); strings.Contains(r.log.String(), parts[2]) {
		t.Error("the log has a token")
	}
}

// service judges clients, as a program of an operator would.
type service struct {
	mu    sync.Mutex
	asked []map[string]any
	hang  chan struct{} // closed at the end
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q map[string]any
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, "no JSON", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, q)
	s.mu.Unlock()
	switch q["password"] {
	case "right":
		w.Write([]byte(`{"result":"allow"}`))
	case "mapped":
		w.Write([]byte(`{"result":"allow","user":"alice"}`))
	case "later":
		select {
		case <-s.hang:
		case <-r.Context().Done():
		}
	case "broken":
		http.Error(w, "no", http.StatusInternalServerError)
	case "next":
		w.Write([]byte(`{"result":"ignore"}`))
	default:
		w.Write([]byte(`{"result":"deny"}`))
	}
}

func TestHTTPService(t *testing.T) {
	s := &service{hang: make(chan struct{})}
	web := httptest.NewServer(s)
	defer web.Close()
	defer close(s.hang)
	config := `
authentication:
  sources:
    - http: { url: "` + web.URL + `", timeout: 3s }
    - passwords: { file: users }
guard: { exempt: [127.0.0.0/8] }
`
	r := startLogins(t, server.Native, config, map[string]string{"users": hashed(t, "bob", "next")})
	r.tries("plain", entrant{"c", "alice", "right"}, letIn)
	r.tries("tls", entrant{"c", "mallory", "mapped"}, letIn)
	r.tries("plain", entrant{"c", "alice", "wrong"}, bad)
	r.tries("plain", entrant{"c", "bob", "next"}, letIn)
	r.tries("plain", entrant{"c", "alice", "later"}, notNow)
	r.tries("plain", entrant{"c", "alice", "broken"}, notNow)
	r.tries("plain", entrant{id: "c"}, unknown)
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.asked[0]; q["client_id"] != "c" || q["user"] != "alice" || q["listener"] != "plain" || q["address"] != "127.0.0.1" {
		t.Errorf("the service was asked %v", q)
	}
	if n := strings.Count(r.log.String(), "the authentication service does not answer as it should"); n != 1 {
		t.Errorf("%d log lines", n)
	}
	if strings.Count(r.log.String(), "later") > 0 {
		t.Error("the log has a password")
	}
}
