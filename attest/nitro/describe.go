package nitro

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Describe tells what a document says, field by field. Nothing is verified.
func Describe(q attest.Quote) ([]attest.Field, error) {
	_, d, err := parse(q.Data)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "attestation document: %w", err)
	}
	fields := []attest.Field{{Name: "enclave", Value: strconv.QuoteToGraphic(d.ModuleID)}, {Name: "made at", Value: d.time().Format(time.RFC3339)}}
	for _, i := range slices.Sorted(maps.Keys(d.PCRs)) {
		fields = append(fields, attest.Field{Name: "PCR" + strconv.Itoa(int(i)), Value: hex.EncodeToString(d.PCRs[i])})
	}
	for _, f := range []struct {
		name  string
		value []byte
	}{{"user data", d.UserData}, {"nonce", d.Nonce}, {"public key", d.PublicKey}} {
		if len(f.value) > 0 {
			fields = append(fields, attest.Field{Name: f.name, Value: hex.EncodeToString(f.value)})
		}
	}
	for _, der := range append(slices.Clone(d.CABundle), d.Certificate) {
		fields = append(fields, describeCertificate(der))
	}
	return fields, nil
}

func describeCertificate(der []byte) attest.Field {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return attest.Field{Name: "certificate", Value: "cannot be read"}
	}
	return attest.Field{Name: "certificate", Value: fmt.Sprintf("%q, valid %s to %s", c.Subject.CommonName, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))}
}
