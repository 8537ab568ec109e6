// Package links remembers that certificates have signed each other, for verifiers that are shown the same authorities with each
// piece of evidence: whether Intel, AMD or AWS has signed one of its own intermediate certificates is worked out once.
//
// What is remembered is a signature, and what else follows from the bytes of the certificates alone. They are known by all their bytes. When they
// are valid is judged each time, and whether they have been revoked is for the caller to judge each time. The certificate of the key that signs evidence is never
// remembered: its signature is verified each time.
package links

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"
)

// most is how many links or chains of authorities are remembered. The makers of TEEs have a dozen; AWS has one for each instance.
const most = 256

// key is the SHA-256 of certificates, each behind its length.
type key [sha256.Size]byte

// Memory remembers what has been verified. Many goroutines may use it. nil remembers nothing.
type Memory struct {
	mu    sync.Mutex
	known map[key]struct{}
	order []key // the oldest stands at next once there are most
	next  int
}

// New returns a Memory that remembers nothing yet.
func New() *Memory { return &Memory{known: map[key]struct{}{}} }

// CheckSignatureFrom is child.CheckSignatureFrom(parent) for certificates of authorities.
func (m *Memory) CheckSignatureFrom(child, parent *x509.Certificate) error {
	k := keyOf(child, parent)
	if m.knows(k) {
		return nil
	}
	err := child.CheckSignatureFrom(parent)
	if err == nil {
		m.learn(k)
	}
	return err
}

// Verify verifies a chain, the leaf first and the trusted root last, as of the time now, for any use. It returns the chain that
// was verified, which may be shorter. It is x509.Certificate.Verify, but for what is above the leaf's issuer: once that has been verified, only when
// it is valid is looked at again.
func (m *Memory) Verify(chain []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	leaf, above := chain[0], chain[1:]
	k := keyOf(above...)
	if len(above) < 2 || constrained(above) {
		return verify(leaf, above, now)
	}
	if valid(above, now) && m.knows(k) {
		if _, err := verify(leaf, above[:1], now); err == nil {
			return chain, nil
		} // the leaf may be of another authority in the chain: whether it is must not depend on what is remembered
	}
	verified, err := verify(leaf, above, now)
	if err == nil && same(verified, chain) {
		m.learn(k)
	}
	return verified, err
}

// verify verifies a certificate under those above it, of which the last is trusted.
func verify(leaf *x509.Certificate, above []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	last := len(above) - 1
	roots.AddCert(above[last])
	for _, c := range above[:last] {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, err
	}
	return chains[0], nil
}

// valid reports whether certificates are valid at the time now.
func valid(certificates []*x509.Certificate, now time.Time) bool {
	for _, c := range certificates {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return false
		}
	}
	return true
}

// constrained reports whether one of the authorities may sign for some names only: whether it may sign the leaf does not follow from
// the bytes of authorities alone then.
func constrained(authorities []*x509.Certificate) bool {
	for _, c := range authorities {
		if len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
			len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0 {
			return true
		}
	}
	return false
}

func same(a, b []*x509.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Raw, b[i].Raw) {
			return false
		}
	}
	return true
}

func keyOf(certificates ...*x509.Certificate) (k key) {
	h := sha256.New()
	for _, c := range certificates {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(c.Raw))))
		h.Write(c.Raw)
	}
	return key(h.Sum(nil))
}

func (m *Memory) knows(k key) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.known[k]
	return ok
}

// learn remembers k, and forgets the oldest if there is too much.
func (m *Memory) learn(k key) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[k]; ok {
		return
	}
	m.known[k] = struct{}{}
	if len(m.order) < most {
		m.order = append(m.order, k)
		return
	}
	delete(m.known, m.order[m.next])
	m.order[m.next] = k
	m.next = (m.next + 1) % most
}
