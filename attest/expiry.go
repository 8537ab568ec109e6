package attest

import (
	"crypto/x509"
	"time"
)

// FirstExpiry returns when the first of some certificates expires, for drivers: [PlatformClaims].Expiry. There must be at least one.
func FirstExpiry(certificates []*x509.Certificate) time.Time {
	first := certificates[0].NotAfter
	for _, c := range certificates[1:] {
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}
