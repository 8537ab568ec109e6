package client

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
)

// Why a bundle must not be used, or must not take the place of another one, for errors.Is.
var (
	ErrBundleExpired  = errors.New("bundle has expired")
	ErrBundleRollback = errors.New("bundle is older than the one that you have")
	ErrBundleOwner    = errors.New("bundle is signed by an owner that you do not know")
	ErrBundleService  = errors.New("bundle is for another service")
)

// CheckTime returns an error if the bundle has expired. Dial and Inspect call it.
func (b *Bundle) CheckTime(now time.Time) error {
	if b.NotAfter.IsZero() || now.Before(b.NotAfter) {
		return nil
	}
	return fmt.Errorf("%w on %s: ask the owner for a new one, and put it in place with `vouchmq bundle update`", ErrBundleExpired, b.NotAfter.Format(time.RFC3339))
}

// CheckOwner returns an error unless the owner's key has that fingerprint.
func (b *Bundle) CheckOwner(fingerprint attest.Digest) error {
	if got := b.Fingerprint(); got != fingerprint {
		return fmt.Errorf("%w: it is signed by %s, and you asked for %s", ErrBundleOwner, got, fingerprint)
	}
	return nil
}

// Succeeds returns an error unless b may take the place of old: it is for the same service, signed by the same owner CA
// with a serial number that is not lower, or by the CA that old announces as the next. Serial numbers are of one CA. The
// same bundle may take its own place.
func (b *Bundle) Succeeds(old *Bundle) error {
	switch {
	case b.Service != old.Service:
		return fmt.Errorf("%w: %q instead of %q", ErrBundleService, b.Service, old.Service)
	case b.OwnerCA.Equal(old.OwnerCA):
		return b.checkSerial(old)
	case old.NextCA == nil:
		return fmt.Errorf("%w: %s, and your bundle announces no successor of %s. If the owner did change their CA, an earlier bundle "+
			"announces it: update to that one first", ErrBundleOwner, b.Fingerprint(), old.Fingerprint())
	case !b.OwnerCA.Equal(old.NextCA):
		return fmt.Errorf("%w: %s; your bundle is signed by %s and announces %s", ErrBundleOwner, b.Fingerprint(), old.Fingerprint(), owner.Fingerprint(old.NextCA))
	}
	return nil
}

func (b *Bundle) checkSerial(old *Bundle) error {
	if b.Serial > old.Serial {
		return nil
	}
	if b.Serial < old.Serial {
		return fmt.Errorf("%w: serial number %d of %s, and you have %d of %s. Somebody may want you to go back to what is no longer right",
			ErrBundleRollback, b.Serial, b.IssuedAt.Format(time.DateOnly), old.Serial, old.IssuedAt.Format(time.DateOnly))
	}
	one, err := b.payload()
	if err != nil {
		return err
	}
	other, err := old.payload()
	if err != nil {
		return err
	}
	if !bytes.Equal(one, other) {
		return fmt.Errorf("%w: both have the serial number %d, and they differ; ask the owner which is right", ErrBundleRollback, b.Serial)
	}
	return nil
}

// Roots returns the roots that certificates of the service lead to: the owner CA and, if one is announced, the next.
func (b *Bundle) Roots() *x509.CertPool {
	pool := owner.Pool(b.OwnerCA)
	if b.NextCA != nil {
		pool.AddCert(b.NextCA)
	}
	return pool
}
