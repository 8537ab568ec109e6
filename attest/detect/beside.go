package detect

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
)

// beside says what data is that belongs to evidence and is none itself, "" if that is not known either.
func beside(data []byte) string {
	if c, err := x509.ParseCertificate(data); err == nil {
		return fmt.Sprintf("a certificate (of %q), which is to go with evidence", c.Subject.String())
	}
	if l, err := x509.ParseRevocationList(data); err == nil {
		return fmt.Sprintf("a revocation list (of %q), which belongs to collateral", l.Issuer.String())
	}
	if _, err := x509.ParsePKIXPublicKey(data); err == nil {
		return "a public key, which is to go with evidence"
	}
	if bytes.Contains(data[:min(len(data), 64)], []byte("Spec ID Event03")) {
		return "an event log of firmware, which is to go with evidence"
	}
	var w map[string]json.RawMessage
	if json.Unmarshal(data, &w) != nil {
		return ""
	}
	for _, known := range []struct{ member, text string }{
		{"tcb_info", "Intel's collateral, which is to go with a quote"}, {"tcbInfo", "TCB info of Intel, which belongs to collateral"},
		{"enclaveIdentity", "a QE identity of Intel, which belongs to collateral"}, {"kty", "a key (JWK), which is to go with evidence"},
	} {
		if w[known.member] != nil {
			return known.text
		}
	}
	return "an object of JSON in which there is nothing that is signed"
}
