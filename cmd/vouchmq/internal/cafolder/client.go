package cafolder

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
)

// pemRequest is the PEM type of a PKCS #10 certificate request (RFC 7468, 7).
const pemRequest = "CERTIFICATE REQUEST"

// minRSA is the size in bits of the shortest RSA key that gets a certificate.
const minRSA = 2048

// ParseClientRequest reads the certificate request of a client (PKCS #10 in PEM, as other programs make it), and returns its key. What
// else it asks for is not looked at, but a common name must be the client's.
func ParseClientRequest(data []byte, name string) (crypto.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemRequest && block.Type != "NEW "+pemRequest {
		return nil, errors.New("it is no certificate request (PKCS #10) in PEM")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("it is not signed by its own key: %w", err)
	}
	if got := r.Subject.CommonName; got != "" && got != name {
		return nil, fmt.Errorf("it is for %q, and the certificate is to be for %q", got, name)
	}
	return r.PublicKey, checkClientKey(r.PublicKey)
}

func checkClientKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSA {
			return nil
		}
		return fmt.Errorf("its RSA key has %d bits, and needs %d", k.N.BitLen(), minRSA)
	}
	return fmt.Errorf("its key is a %T: use ECDSA, Ed25519 or RSA", key)
}

// IssueClient issues a certificate to a client. It is in the ledger when it returns.
func (f *Folder) IssueClient(ca *owner.CA, key crypto.PublicKey, name string, validity time.Duration, now time.Time) (*x509.Certificate, error) {
	if err := f.outlives(now, validity); err != nil {
		return nil, err
	}
	leaf, err := ca.IssueClient(key, name, now, validity)
	if err != nil {
		return nil, err
	}
	record := ClientRecord{Name: name, Serial: leaf.SerialNumber.Text(16), At: now.UTC().Truncate(time.Second), NotAfter: leaf.NotAfter.UTC()}
	f.Ledger.Clients = append(f.Ledger.Clients, record)
	if err := f.save(); err != nil {
		return nil, err
	}
	return leaf, errors.Join(os.MkdirAll(f.path(issuedFolder), 0o700),
		atomicfile.Create(f.issuedPath(record.Serial), owner.EncodeCertificate(leaf.Raw), atomicfile.Public))
}

// outlives returns an error if a certificate would be good for longer than the CA.
func (f *Folder) outlives(now time.Time, validity time.Duration) error {
	if end := f.Certificate.NotAfter; now.Add(validity).After(end) {
		return fmt.Errorf("the certificate would outlive the owner CA, which ends on %s: ask for fewer days, or make a successor with `vouchmq ca init --succeeds`", end.Format(time.DateOnly))
	}
	return nil
}

// RevokeClient marks the certificates of a client, by its name or the serial number of one, as revoked, and returns how many. The next
// RevocationList has them, and writes it down.
func (f *Folder) RevokeClient(name string, now time.Time) (n int) {
	at := now.UTC().Truncate(time.Second)
	for i := range f.Ledger.Clients {
		c := &f.Ledger.Clients[i]
		if (c.Name == name || c.Serial == name) && c.Revoked == nil && now.Before(c.NotAfter) {
			c.Revoked = &at
			n++
		}
	}
	return n
}

// RevocationList signs a list of the clients' certificates that are revoked and would still be good (PEM).
func (f *Folder) RevocationList(ca *owner.CA, now, until time.Time) ([]byte, error) {
	var revoked []owner.Revoked
	for _, c := range f.Ledger.Clients {
		if c.Revoked == nil || now.After(c.NotAfter) {
			continue
		}
		serial, ok := new(big.Int).SetString(c.Serial, 16)
		if !ok {
			return nil, fmt.Errorf("ledger: serial number %q of client %q", c.Serial, c.Name)
		}
		revoked = append(revoked, owner.Revoked{Serial: serial, At: *c.Revoked})
	}
	f.Ledger.Revocations++
	der, err := ca.RevocationList(revoked, f.Ledger.Revocations, now, until)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), f.save()
}
