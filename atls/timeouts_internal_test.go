package atls

import (
	"context"
	"crypto/x509"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// slow is an attester of a platform that is given more time than others.
type slow struct{}

func (slow) Platform() attest.Platform { return attest.TPM }

func (slow) Attest(context.Context, attest.ReportData) (attest.Quote, error) {
	return attest.Quote{}, nil
}

// A slow platform has its time, whoever asks it, and however the server came to know it.
func TestTimeForEvidence(t *testing.T) {
	key, err := NewECHKey("public.example", 1)
	if err != nil {
		t.Fatal(err)
	}
	client, err := (&ClientConfig{
		Service: "plant.example", Roots: x509.NewCertPool(), ECHConfigList: ECHConfigList(key), Unattested: true, Attester: slow{},
	}).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		got, want time.Duration
	}{
		"no attester":      {ServerConfig{}.withDefaults().EvidenceTimeout, DefaultEvidenceTimeout},
		"attester":         {ServerConfig{Attester: slow{}}.withDefaults().EvidenceTimeout, attest.TPM.Patience()},
		"batcher":          {ServerConfig{Batcher: attest.NewBatcher(slow{})}.withDefaults().EvidenceTimeout, attest.TPM.Patience()},
		"said":             {ServerConfig{Attester: slow{}, EvidenceTimeout: time.Second}.withDefaults().EvidenceTimeout, time.Second},
		"handshake":        {ServerConfig{}.withDefaults().HandshakeTimeout, DefaultHandshakeTimeout},
		"slow handshake":   {ServerConfig{Attester: slow{}}.withDefaults().HandshakeTimeout, attest.TPM.Patience()},
		"slow client":      {client.HandshakeTimeout, attest.TPM.Patience()},
		"client":           {evidenceTimeout((&ClientConfig{}).platform(), nil), DefaultEvidenceTimeout},
		"client, attester": {evidenceTimeout((&ClientConfig{Attester: slow{}}).platform(), nil), attest.TPM.Patience()},
	} {
		if test.got != test.want {
			t.Errorf("%s: %v, not %v", name, test.got, test.want)
		}
	}
}
