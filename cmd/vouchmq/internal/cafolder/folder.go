// Package cafolder keeps the folder of a service's owner: the owner CA with its key, and a ledger of what was asked, issued
// and signed. It is for the owner's own machine. Nothing of it but the CA's certificate ever goes to the broker.
//
// The folder has these files; those of the key and the ledger are for their owner alone:
//
//	owner-ca.pem              certificate of the owner CA; the broker's configuration names a copy of it
//	owner-ca.key              its key as PEM, or
//	owner-ca.key.age          its key under a passphrase, in the age format (age-encryption.org/v1, armored)
//	ledger.json               see Ledger
//	issued/SERIAL.pem         every certificate that was issued
//
// Issuing is in two steps, each with a type that only the step before makes: a request is judged, which needs no key;
// what was accepted is issued.
package cafolder

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
)

// Names of files in the folder.
const (
	CertificateFile = "owner-ca.pem"
	KeyFile         = "owner-ca.key"
	SealedKeyFile   = "owner-ca.key.age"
	ledgerFile      = "ledger.json"
	issuedFolder    = "issued"
)

// ErrExists says that a folder holds an owner CA already.
var ErrExists = errors.New("there is an owner CA already, and it is not overwritten")

// Folder is an owner's folder. Its key stays on disk until Unlock.
type Folder struct {
	Dir         string
	Certificate *x509.Certificate
	Ledger      Ledger
	onDisk      []byte // the ledger as it was read or written last
}

// Founding is what a new folder is made of.
type Founding struct {
	Service    string
	Addresses  []string // host:port by which clients reach the broker, for bundles
	Names      []string // further names and IP addresses of the broker, for ordinary TLS clients
	Validity   time.Duration
	Passphrase []byte  // for the key; nil leaves it open
	WorkFactor int     // how long a guess at it takes, as a power of two for scrypt; 0 is about a second
	Succeeds   *Folder // whose owner CA the new one is to follow; may be nil
}

// Init makes a folder with a new owner CA. It overwrites nothing.
func Init(dir string, f Founding, now time.Time) (*Folder, error) {
	if err := f.Check(dir); err != nil {
		return nil, err
	}
	ledger := f.ledger()
	if err := os.MkdirAll(filepath.Join(dir, issuedFolder), 0o700); err != nil {
		return nil, err
	}
	ca, err := owner.New("VouchMQ owner of "+ledger.Service, now, f.Validity)
	if err != nil {
		return nil, err
	}
	folder := &Folder{Dir: dir, Certificate: ca.Certificate(), Ledger: ledger}
	if err := folder.writeNew(ca, &f); err != nil {
		return nil, err
	}
	return folder, f.announce(ca)
}

// Check says what stands in the way of Init, without the passphrase, and makes nothing.
func (f *Founding) Check(dir string) error {
	ledger := f.ledger()
	if err := ledger.check(); err != nil {
		return err
	}
	for _, name := range []string{CertificateFile, KeyFile, SealedKeyFile, ledgerFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", filepath.Join(dir, name), errors.Join(ErrExists, err))
		}
	}
	return nil
}

func (f *Founding) ledger() Ledger {
	if f.Succeeds == nil {
		return Ledger{Version: ledgerVersion, Service: f.Service, Addresses: f.Addresses, Names: f.Names}
	}
	l := f.Succeeds.Ledger
	return Ledger{Version: ledgerVersion, Service: l.Service, Addresses: l.Addresses, Names: l.Names, Instances: l.Instances}
}

// announce notes the new CA in the folder of the one that it succeeds. The next bundle of that folder names it.
func (f *Founding) announce(ca *owner.CA) error {
	if f.Succeeds == nil {
		return nil
	}
	f.Succeeds.Ledger.NextCA = ca.Certificate().Raw
	return f.Succeeds.save()
}

// writeNew writes the ledger last: without it this is no folder yet, and with it it is whole.
func (f *Folder) writeNew(ca *owner.CA, founding *Founding) error {
	name := KeyFile
	key, err := ca.KeyPEM()
	if err == nil && founding.Passphrase != nil {
		name = SealedKeyFile
		key, err = seal(key, founding.Passphrase, founding.WorkFactor)
	}
	if err != nil {
		return err
	}
	ledger, err := f.Ledger.encode()
	if err != nil {
		return err
	}
	var made []string
	undo := func() (err error) { // what is half made would stand in the way of the next try
		for _, path := range made {
			err = errors.Join(err, os.Remove(path))
		}
		return err
	}
	for _, file := range []struct {
		name    string
		content []byte
		mode    fs.FileMode
	}{{CertificateFile, ca.CertificatePEM(), atomicfile.Public}, {name, key, atomicfile.Secret}, {ledgerFile, ledger, atomicfile.Secret}} {
		if err := atomicfile.Create(f.path(file.name), file.content, file.mode); err != nil {
			return errors.Join(err, undo())
		}
		made = append(made, f.path(file.name))
	}
	f.onDisk = ledger
	return nil
}

// Open reads a folder. The key is not touched.
func Open(dir string) (*Folder, error) {
	f := &Folder{Dir: dir}
	certificate, err := os.ReadFile(f.path(CertificateFile))
	if err != nil {
		return nil, fmt.Errorf("folder of the owner: %w", err)
	}
	if f.Certificate, err = owner.ParseCertificate(certificate); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(CertificateFile), err)
	}
	if err := owner.CheckCA(f.Certificate); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(CertificateFile), err)
	}
	ledger, err := os.ReadFile(f.path(ledgerFile))
	if err != nil {
		return nil, fmt.Errorf("folder of the owner: %w", err)
	}
	if f.Ledger, err = parseLedger(ledger); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(ledgerFile), err)
	}
	f.onDisk = ledger
	return f, nil
}

// Sealed reports whether the key needs a passphrase.
func (f *Folder) Sealed() bool {
	_, err := os.Stat(f.path(SealedKeyFile))
	return err == nil
}

// Unlock reads the key. passphrase is nil for a key that has none.
func (f *Folder) Unlock(passphrase []byte) (*owner.CA, error) {
	name := KeyFile
	if f.Sealed() {
		name = SealedKeyFile
	}
	key, err := os.ReadFile(f.path(name))
	if err != nil {
		return nil, fmt.Errorf("key of the owner: %w", err)
	}
	if f.Sealed() {
		if key, err = unseal(key, passphrase); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path(name), err)
		}
	}
	ca, err := owner.Parse(owner.EncodeCertificate(f.Certificate.Raw), key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(name), err)
	}
	return ca, nil
}

func (f *Folder) path(name string) string { return filepath.Join(f.Dir, name) }

// ErrChanged says that somebody else has used the folder at the same time.
var ErrChanged = errors.New("the folder was changed by another command meanwhile, and this one has done nothing: try again")

// save writes the ledger, unless it is no longer the one that was read: no serial number and no nonce is used twice.
func (f *Folder) save() error {
	if err := f.Ledger.check(); err != nil {
		return err
	}
	b, err := f.Ledger.encode()
	if err != nil {
		return err
	}
	release, err := f.claim()
	if err != nil {
		return err
	}
	defer release()
	now, err := os.ReadFile(f.path(ledgerFile))
	if err != nil {
		return err
	}
	if !bytes.Equal(now, f.onDisk) {
		return ErrChanged
	}
	f.onDisk = b
	return atomicfile.Replace(f.path(ledgerFile), b, atomicfile.Secret)
}

// claim makes this the only command that may follow the ledger that was read, until release. It is a file of the name of that ledger's digest, so that
// who has read a later one does not wait.
func (f *Folder) claim() (release func(), err error) {
	path := f.path(fmt.Sprintf(".%s-%x", ledgerFile, sha256.Sum256(f.onDisk)))
	err = atomicfile.Create(path, nil, atomicfile.Secret)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w. If it still says so when no other is at work, one was interrupted: then remove %s", ErrChanged, path)
	}
	return func() { _ = os.Remove(path) }, err
}

// Challenge gives out a nonce that one request may answer until the given time.
func (f *Folder) Challenge(random io.Reader, now, until time.Time) (owner.Nonce, error) {
	nonce, err := owner.NewNonce(random)
	if err != nil {
		return nonce, err
	}
	f.Ledger.forgetChallenges(now)
	if len(f.Ledger.Challenges) >= maxChallenges {
		return nonce, fmt.Errorf("%d nonces wait for a request already; the oldest is good until %s", maxChallenges, f.Ledger.Challenges[0].Until.Format(time.RFC3339))
	}
	f.Ledger.Challenges = append(f.Ledger.Challenges, Challenge{Nonce: nonce.String(), Until: until.UTC().Truncate(time.Second)})
	return nonce, f.save()
}
