package ear

import (
	"crypto/ecdsa"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/signed"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

var message = signed.Kind{Name: "attestation result"}

// Sign encodes and signs a result with a key on P-256 or P-384.
func Sign(r *Result, key *ecdsa.PrivateKey, random io.Reader) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	payload, err := dcbor.Encode(r)
	if err != nil {
		return nil, fmt.Errorf("encode attestation result: %w", err)
	}
	return message.Sign(payload, key, random)
}

// Parse verifies the signature of a result and reads it. It looks at no clock: see [Result.CheckTime].
func Parse(data []byte, key *ecdsa.PublicKey) (*Result, error) {
	if len(data) > MaxSize {
		return nil, attest.Errorf(attest.ErrFormat, "attestation result of %d bytes is too large (at most %d)", len(data), MaxSize)
	}
	payload, err := message.Open(data, key)
	if err != nil {
		return nil, err
	}
	return decode(payload)
}

func decode(payload []byte) (*Result, error) {
	r := &Result{}
	if err := dcbor.Decode(payload, r); err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "attestation result: %w", err)
	}
	return r, r.check()
}

func (r *Result) check() error {
	switch {
	case r.Profile != Profile:
		return attest.Errorf(attest.ErrFormat, "attestation result has another profile than %s", Profile)
	case r.IssuedAt <= 0 || r.Expires < 0 || r.Expires != 0 && r.Expires <= r.IssuedAt:
		return attest.Errorf(attest.ErrFormat, "attestation result has times that cannot be")
	case r.Nonce != nil && (len(r.Nonce) < minNonce || len(r.Nonce) > maxNonce):
		return attest.Errorf(attest.ErrFormat, "nonce of the attestation result has %d bytes, not %d to %d", len(r.Nonce), minNonce, maxNonce)
	case len(r.Submodules) == 0 || len(r.Submodules) > maxSubmodules:
		return attest.Errorf(attest.ErrFormat, "attestation result has %d submodules, not 1 to %d", len(r.Submodules), maxSubmodules)
	case !printable(r.Verifier.Developer) || !printable(r.Verifier.Build):
		return attest.Errorf(attest.ErrFormat, "attestation result names a verifier that cannot be printed")
	}
	for name, a := range r.Submodules {
		if !printable(name) {
			return attest.Errorf(attest.ErrFormat, "attestation result has a submodule whose name cannot be printed")
		}
		if err := a.check(); err != nil {
			return err
		}
	}
	return nil
}

// check wants a status that is a tier, and claims of the vector none of which is worse.
func (a *Appraisal) check() error {
	switch a.Status {
	case None, Affirming, Warning, Contraindicated:
	default:
		return attest.Errorf(attest.ErrFormat, "attestation result has status %d, which is no tier", a.Status)
	}
	if len(a.Policies) > maxPolicies {
		return attest.Errorf(attest.ErrFormat, "attestation result names %d policies, at most %d", len(a.Policies), maxPolicies)
	}
	for _, p := range a.Policies {
		if !printable(p) {
			return attest.Errorf(attest.ErrFormat, "attestation result names a policy that cannot be printed")
		}
	}
	if a.Vector != nil && a.Vector.worst() > a.Status && a.Vector.worst().String() != a.Status.String() {
		return attest.Errorf(attest.ErrFormat, "attestation result is %v, and its vector has a claim that is %v", a.Status, a.Vector.worst())
	}
	return nil
}

func printable(text string) bool {
	if len(text) == 0 || len(text) > maxText || !utf8.ValidString(text) {
		return false
	}
	for _, c := range text {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return true
}
