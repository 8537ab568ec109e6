// Package enrolment keeps the keys of a broker whose certificate comes from an owner elsewhere. The keys are made here and
// never leave the folder, which belongs on storage that only the TEE can read.
//
// The folder has these files. All but the last two are secret.
//
//	identity.pem      what is in use: certificate, its key, and one or two ECH keys, the newest first
//	pending.pem       key and ECH key that wait for a certificate
//	request.pem       the request for renewal that the broker made by itself
//	certificate.pem   a certificate that somebody has put there: it is installed when it is noticed, and removed
//
// What belongs together is in one file, so that one rename puts a new certificate in force, with its keys, or does nothing.
package enrolment

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
)

// Names of the files.
const (
	IdentityFile    = "identity.pem"
	PendingFile     = "pending.pem"
	RequestFile     = "request.pem"
	CertificateFile = "certificate.pem"
)

// What can be wrong, for errors.Is.
var (
	ErrNotEnrolled = errors.New("the broker is not enrolled: it has no certificate of its owner yet")
	ErrCertificate = errors.New("certificate cannot be used")
)

// generations is how many ECH keys are in use at a time: clients may have the bundle before.
const generations = 2

// Folder is the folder of a broker with an owner.
type Folder struct {
	Dir        string
	Service    string
	PublicName string            // of ECH keys that are made
	Owner      *x509.Certificate // the owner CA
	OwnerFile  string            // that it was read from, if any
}

// Identity is what a broker shows: a certificate with its key, and ECH keys, the newest first.
type Identity struct {
	Certificate tls.Certificate
	ECHKeys     []*atls.ECHKey
}

// Path returns the path of a file in the folder.
func (f *Folder) Path(name string) string { return filepath.Join(f.Dir, name) }

// Watched are the files whose change concerns a running broker.
func (f *Folder) Watched() []string {
	return []string{f.Path(IdentityFile), f.Path(CertificateFile)}
}

// Open reads what is in use, after it has installed a certificate that was put there. The error is ErrNotEnrolled if there
// is none. An identity may come with an error that says why the certificate that was put there is not used.
func (f *Folder) Open(now time.Time) (*Identity, error) {
	refused := f.TakeDelivered(now)
	id, err := f.Current()
	return id, errors.Join(err, refused)
}

// Current reads what is in use. The error is ErrNotEnrolled if there is none, or none that fits.
func (f *Folder) Current() (*Identity, error) {
	id, err := f.load()
	if err != nil {
		return nil, err
	}
	// Another owner or another name: it is as if there were no certificate.
	if err := f.fits(id.Certificate.Leaf); err != nil {
		return nil, fmt.Errorf("%w: that in %s is of no use any more: %w", ErrNotEnrolled, f.Path(IdentityFile), err)
	}
	return id, nil
}

// load reads the identity, also one that does not fit.
func (f *Folder) load() (*Identity, error) {
	blocks, err := readBlocks(f.Path(IdentityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotEnrolled
	}
	if err != nil {
		return nil, err
	}
	id, err := parseIdentity(blocks)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path(IdentityFile), err)
	}
	return id, nil
}

// readBlocks reads the PEM blocks of a file, each as PEM of its own.
func readBlocks(path string) (blocks [][]byte, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		blocks, text = append(blocks, pem.EncodeToMemory(block)), rest
	}
	if len(bytes.TrimSpace(text)) > 0 {
		return nil, fmt.Errorf("%s: something in it is no PEM block", path)
	}
	return blocks, nil
}

func parseIdentity(blocks [][]byte) (*Identity, error) {
	if len(blocks) < 3 || len(blocks) > 2+generations {
		return nil, fmt.Errorf("it has %d PEM blocks, and not a certificate, its key, and one or two ECH keys", len(blocks))
	}
	leaf, err := owner.ParseCertificate(blocks[0])
	if err != nil {
		return nil, err
	}
	key, err := owner.ParseKey(blocks[1])
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("certificate and key do not belong together")
	}
	id := &Identity{Certificate: owner.TLSCertificate(leaf, key)}
	for _, block := range blocks[2:] {
		ech, err := atls.ParseECHKey(block)
		if err != nil {
			return nil, err
		}
		id.ECHKeys = append(id.ECHKeys, ech)
	}
	return id, nil
}

func (id *Identity) encode(key *ecdsa.PrivateKey) ([]byte, error) {
	b, err := owner.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	content := append(owner.EncodeCertificate(id.Certificate.Leaf.Raw), b...)
	for _, ech := range id.ECHKeys {
		content = append(content, ech.Marshal()...)
	}
	return content, nil
}

// fits says why a certificate is not one for this broker. Dates are not looked at: an expired certificate is what a broker
// with a wrong clock has, and clients judge it themselves.
func (f *Folder) fits(leaf *x509.Certificate) error {
	if err := leaf.CheckSignatureFrom(f.Owner); err != nil {
		return fmt.Errorf("it is not signed by the owner CA that the configuration names (%s): %w", owner.Fingerprint(f.Owner).Short(), err)
	}
	for _, name := range []string{f.Service, "nonce.n1." + f.Service, f.PublicName} {
		if err := leaf.VerifyHostname(name); err != nil {
			return err
		}
	}
	return nil
}

// pending are keys that wait for a certificate.
type pending struct {
	key *ecdsa.PrivateKey
	ech *atls.ECHKey
}

// openPending reads the keys that wait, and makes them if there are none. Whoever comes second reads those of the first.
func (f *Folder) openPending() (*pending, error) {
	p, err := f.readPending()
	if err == nil && p.ech.PublicName() == f.PublicName {
		return p, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	write := atomicfile.Create
	if p != nil {
		write = atomicfile.Replace
	}
	if err := f.makePending(write); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return f.readPending()
}

func (f *Folder) readPending() (*pending, error) {
	blocks, err := readBlocks(f.Path(PendingFile))
	if err != nil {
		return nil, err
	}
	if len(blocks) != 2 {
		return nil, fmt.Errorf("%s: it has %d PEM blocks, and not a key and an ECH key", f.Path(PendingFile), len(blocks))
	}
	p := new(pending)
	if p.key, err = owner.ParseKey(blocks[0]); err == nil {
		p.ech, err = atls.ParseECHKey(blocks[1])
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path(PendingFile), err)
	}
	return p, nil
}

func (f *Folder) makePending(write func(string, []byte, fs.FileMode) error) error {
	var id uint8 = 1
	if now, err := f.load(); err == nil {
		id = now.ECHKeys[0].ID() + 1 // generations in use have different ids
	}
	key, err := owner.NewKey()
	if err != nil {
		return err
	}
	ech, err := atls.NewECHKey(f.PublicName, id)
	if err != nil {
		return err
	}
	content, err := owner.EncodeKey(key)
	if err != nil {
		return err
	}
	return write(f.Path(PendingFile), append(content, ech.Marshal()...), atomicfile.Secret)
}

// Request makes a request for a certificate, for keys that it makes too unless some wait already. It answers the nonce.
func (f *Folder) Request(ctx context.Context, a attest.Attester, id attest.Identity, nonce owner.Nonce, now time.Time) (*owner.Request, error) {
	p, err := f.openPending()
	if err != nil {
		return nil, err
	}
	return owner.NewRequest(ctx, owner.Asked{
		Service: f.Service, Key: p.key, ECHKey: p.ech, Nonce: nonce, Attester: a, Identity: id,
	}, now)
}

// Install puts a certificate in force, with the keys that have waited for it. The ECH key before stays beside the new one.
// A broker that runs notices it. A certificate that is in force already does no harm.
func (f *Folder) Install(certificate []byte, now time.Time) (*x509.Certificate, error) {
	leaf, err := owner.ParseCertificate(bytes.TrimSpace(certificate))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	before, err := f.load()
	if err != nil && !errors.Is(err, ErrNotEnrolled) {
		return nil, err
	}
	if err := f.check(leaf, now); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if before != nil && before.Certificate.Leaf.Equal(leaf) {
		return leaf, nil
	}
	p, err := f.readPending()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: no key waits for one in %s: ask for it with `vouchmq enroll --out` first", ErrCertificate, f.Dir)
	case err != nil:
		return nil, err
	case !p.key.PublicKey.Equal(leaf.PublicKey):
		return nil, fmt.Errorf("%w: it is for another key than the one that waits in %s: it was issued for another machine, or for a request from before", ErrCertificate, f.Dir)
	}
	return leaf, f.replace(before, leaf, p)
}

func (f *Folder) check(leaf *x509.Certificate, now time.Time) error {
	if err := f.fits(leaf); err != nil {
		return err
	}
	if !now.Before(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return fmt.Errorf("it is good from %s to %s, and it is %s", leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// replace writes the identity, which puts it in force, and then removes what has waited.
func (f *Folder) replace(before *Identity, leaf *x509.Certificate, p *pending) error {
	id := &Identity{Certificate: owner.TLSCertificate(leaf, p.key), ECHKeys: []*atls.ECHKey{p.ech}}
	if before != nil {
		id.ECHKeys = append(id.ECHKeys, before.ECHKeys[0])
	}
	content, err := id.encode(p.key)
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(f.Path(IdentityFile), content, atomicfile.Secret); err != nil {
		return err
	}
	return errors.Join(f.remove(PendingFile), f.remove(RequestFile))
}

func (f *Folder) remove(name string) error {
	if err := os.Remove(f.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// TakeDelivered installs a certificate that somebody has put there. One that cannot be used stays where it is.
func (f *Folder) TakeDelivered(now time.Time) error {
	certificate, err := os.ReadFile(f.Path(CertificateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = f.Install(certificate, now)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path(CertificateFile), err)
	}
	return f.remove(CertificateFile)
}
