package enrolment

import (
	"context"
	"crypto/x509"
	"os"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
)

// RenewalTime returns from when on a certificate should be renewed: when two thirds of its time are over.
func RenewalTime(c *x509.Certificate) time.Time {
	return c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3)
}

// Renewal makes requests for the renewal of a certificate when it is time, each once. The zero value with a folder is
// ready.
type Renewal struct {
	Folder *Folder
	asked  asked // for what the last request was made
}

// asked is all that a request depends on.
type asked struct {
	nonce    owner.Nonce
	identity attest.Identity
}

// Ask writes a request if the certificate is due for renewal, and there is none for it yet from what runs now. It reports
// whether it wrote one.
func (r *Renewal) Ask(ctx context.Context, current *x509.Certificate, a attest.Attester, id attest.Identity, now time.Time) (bool, error) {
	if now.Before(RenewalTime(current)) {
		return false, nil
	}
	want := asked{owner.RenewalNonce(current), id}
	if _, err := os.Stat(r.Folder.Path(RequestFile)); err == nil && r.asked == want {
		return false, nil
	}
	q, err := r.Folder.Request(ctx, a, id, want.nonce, now)
	if err != nil {
		return false, err
	}
	file, err := q.Encode()
	if err != nil {
		return false, err
	}
	if err := atomicfile.Replace(r.Folder.Path(RequestFile), file, atomicfile.Public); err != nil {
		return false, err
	}
	r.asked = want
	return true, nil
}
