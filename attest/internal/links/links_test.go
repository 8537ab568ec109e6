package links

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// pair is a certificate with its key.
type pair struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// issue issues a certificate that was valid a day ago, and still is for some time; with no issuer it signs itself.
func issue(t *testing.T, name string, life time.Duration, issuer *pair, change func(*x509.Certificate)) *pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-day), NotAfter: now.Add(life),
		BasicConstraintsValid: true, IsCA: name != "leaf", KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	if issuer == nil {
		issuer = &pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, &key.PublicKey, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	return &pair{parse(t, der), key}
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// flip changes the last bit of a certificate, which is one of its signature.
func flip(t *testing.T, c *x509.Certificate) *x509.Certificate {
	t.Helper()
	der := append([]byte{}, c.Raw...)
	der[len(der)-1] ^= 1
	return parse(t, der)
}

// world is a root, two authorities below each other, and a leaf.
type world struct{ root, upper, lower, leaf *pair }

func newWorld(t *testing.T) *world {
	w := &world{root: issue(t, "root", 1000*day, nil, nil)}
	w.upper = issue(t, "upper", 5*day, w.root, nil)
	w.lower = issue(t, "lower", 10*day, w.upper, nil) // longer than what has signed it
	w.leaf = issue(t, "leaf", 1000*day, w.lower, nil)
	return w
}

func (w *world) chain() []*x509.Certificate {
	return []*x509.Certificate{w.leaf.Certificate, w.lower.Certificate, w.upper.Certificate, w.root.Certificate}
}

// What was good before does not make good what is not, in whatever place of the chain; and time counts each time.
func TestWhatIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	m := New()
	for range 2 {
		if verified, err := m.Verify(w.chain(), now); err != nil || !same(verified, w.chain()) {
			t.Fatal(err)
		}
	}
	for i := range w.chain()[:3] { // of a root the bytes are trusted, not its own signature
		bad := w.chain()
		bad[i] = flip(t, bad[i])
		if _, err := m.Verify(bad, now); err == nil {
			t.Errorf("accepted with a bit of certificate %d flipped", i)
		}
	}
	for name, at := range map[string]time.Time{
		"the upper authority has expired": now.Add(6 * day), "the lower, too": now.Add(11 * day), "the root, too": now.Add(1001 * day),
		"none is valid yet": now.Add(-2 * day),
	} {
		var invalid x509.CertificateInvalidError
		if _, err := m.Verify(w.chain(), at); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string]*pair{
		"an expired leaf":       issue(t, "leaf", -time.Hour, w.lower, nil),
		"a leaf of another":     issue(t, "leaf", day, issue(t, "lower", day, w.upper, nil), nil),
		"a leaf of the upper":   issue(t, "leaf", day, w.upper, nil),
		"a leaf that is no one": issue(t, "leaf", day, nil, nil),
	} {
		if _, err := m.Verify(append([]*x509.Certificate{bad.Certificate}, w.chain()[1:]...), now); (err == nil) != (name == "a leaf of the upper") {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := issue(t, "root", 1000*day, nil, nil)
	if _, err := m.Verify(append(w.chain()[:3:3], other.Certificate), now); err == nil {
		t.Error("accepted under another root of the same name")
	}
	if _, err := m.Verify(w.chain(), now); err != nil {
		t.Error(err)
	}
}

// The signatures of authorities are those that are remembered: one that is said to have been seen is not verified.
func TestWhatIsRemembered(t *testing.T) {
	w := newWorld(t)
	m := New()
	bad := w.chain()
	bad[2] = flip(t, bad[2])
	m.learn(keyOf(bad[1:]...))
	if _, err := m.Verify(bad, now); err != nil {
		t.Error(err)
	}
	m.learn(keyOf(bad[2], bad[3]))
	if err := m.CheckSignatureFrom(bad[2], bad[3]); err != nil {
		t.Error(err)
	}
}

func TestCheckSignatureFrom(t *testing.T) {
	w := newWorld(t)
	for _, m := range []*Memory{New(), nil} {
		for range 2 {
			if err := m.CheckSignatureFrom(w.lower.Certificate, w.upper.Certificate); err != nil {
				t.Error(err)
			}
		}
		for name, c := range map[string][2]*x509.Certificate{
			"a bit of the child is flipped":  {flip(t, w.lower.Certificate), w.upper.Certificate},
			"another parent":                 {w.lower.Certificate, w.root.Certificate},
			"the parent is another namesake": {w.lower.Certificate, issue(t, "upper", day, w.root, nil).Certificate},
			"the other way round":            {w.upper.Certificate, w.lower.Certificate},
		} {
			for range 2 { // a refusal is not remembered as anything else
				if err := m.CheckSignatureFrom(c[0], c[1]); err == nil {
					t.Errorf("accepted: %s", name)
				}
			}
		}
	}
}

// An authority that may sign for some names only is asked about each leaf.
func TestConstrainedAuthorities(t *testing.T) {
	w := newWorld(t)
	w.upper = issue(t, "upper", day, w.root, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"good.example"} })
	w.lower = issue(t, "lower", day, w.upper, nil)
	m := New()
	for name, good := range map[string]bool{"good.example": true, "bad.example": false} {
		w.leaf = issue(t, "leaf", day, w.lower, func(c *x509.Certificate) { c.DNSNames = []string{name} })
		if _, err := m.Verify(w.chain(), now); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(m.known) != 0 {
		t.Error("it is remembered")
	}
}

// A path that is too long is refused however often.
func TestPathLength(t *testing.T) {
	w := newWorld(t)
	w.root = issue(t, "root", day, nil, func(c *x509.Certificate) { c.MaxPathLen = 1 })
	w.upper = issue(t, "upper", day, w.root, nil)
	w.lower = issue(t, "lower", day, w.upper, nil)
	w.leaf = issue(t, "leaf", day, w.lower, nil)
	m := New()
	for range 2 {
		if _, err := m.Verify(w.chain(), now); err == nil {
			t.Error("accepted")
		}
	}
}

func TestBound(t *testing.T) {
	m := New()
	for i := range 3 * most {
		k := key{byte(i), byte(i >> 8)}
		m.learn(k)
		m.learn(k)
		if !m.knows(k) || len(m.known) != min(i+1, most) || len(m.order) != len(m.known) {
			t.Fatal(i, len(m.known), len(m.order))
		}
	}
	if m.knows(key{}) {
		t.Error("the oldest is still known")
	}
	if (*Memory)(nil).knows(key{}) {
		t.Error("nothing knows something")
	}
}
