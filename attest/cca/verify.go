package cca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/veraison/go-cose"

	"github.com/vouchmq/vouchmq/attest"
)

// Lifecycle states of a platform that is secured (draft-ffm-rats-cca-token, "Platform Lifecycle").
const (
	securedFirst = 0x3000
	securedLast  = 0x30ff
)

// Verifier verifies tokens. It tells which platform key has signed; which keys are those of machines is for the policy to say.
type Verifier struct{}

// NewVerifier returns a verifier.
func NewVerifier() Verifier { return Verifier{} }

// Platform returns attest.CCA.
func (Verifier) Platform() attest.Platform { return attest.CCA }

// Verify checks that the platform token is signed by the key in the quote's endorsements, that it names the realm's key, and that
// the realm token is signed by that. The time does not count, for tokens do not expire.
func (Verifier) Verify(_ context.Context, q attest.Quote, _ attest.ReportData, _ time.Time) (attest.PlatformClaims, error) {
	var none attest.PlatformClaims
	t, err := parse(q.Data)
	if err != nil {
		return none, attest.Errorf(attest.ErrFormat, "CCA token: %w", err)
	}
	platformKey, err := platformKey(q.Endorsements)
	if err != nil {
		return none, err
	}
	if err := checkSignature(t.platform, t.platformSigned, platformKey, "platform"); err != nil {
		return none, err
	}
	digest, err := t.keyDigest()
	if err != nil {
		return none, attest.Errorf(attest.ErrFormat, "CCA token: %w", err)
	}
	if !bytes.Equal(t.platformClaims.KeyDigest, digest) {
		return none, attest.Errorf(attest.ErrSignature, "CCA token: the platform vouches for another realm key than the one that is shown")
	}
	if err := checkSignature(t.realm, t.realmSigned, t.realmKey, "realm"); err != nil {
		return none, err
	}
	return t.claims(q.Endorsements), nil
}

// platformKey reads the CPAK that comes with a token.
func platformKey(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) == 0 {
		return nil, attest.Errorf(attest.ErrFormat, "CCA token comes without the platform's attestation key (CPAK)")
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "CCA token: the platform's attestation key is no public key (SubjectPublicKeyInfo)")
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return nil, attest.Errorf(attest.ErrFormat, "CCA token: the platform's attestation key is no ECDSA key")
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(again, der) {
		return nil, attest.Errorf(attest.ErrFormat, "CCA token: the platform's attestation key is not encoded in its usual form")
	}
	return key, nil
}

func checkSignature(m *cose.Sign1Message, alg cose.Algorithm, key *ecdsa.PublicKey, whose string) error {
	curve := map[cose.Algorithm]elliptic.Curve{cose.AlgorithmES256: elliptic.P256(), cose.AlgorithmES384: elliptic.P384()}[alg]
	if key.Curve != curve {
		return attest.Errorf(attest.ErrSignature, "CCA token: the key of the %s token is not on the curve of its algorithm", whose)
	}
	verifier, err := cose.NewVerifier(alg, key)
	if err == nil {
		err = m.Verify(nil, verifier)
	}
	if err != nil {
		return attest.Errorf(attest.ErrSignature, "CCA token: signature of the %s token is not valid: %w", whose, err)
	}
	return nil
}

func (t *token) claims(platformKey []byte) attest.PlatformClaims {
	p, r := &t.platformClaims, &t.realmClaims
	key, firmware := attest.Sum(platformKey), attest.Sum(p.Firmware)
	c := attest.PlatformClaims{
		Platform: attest.CCA, ReportData: r.Challenge, TCB: attest.TCBNotApplicable,
		Debug: p.Lifecycle < securedFirst || p.Lifecycle > securedLast,
		Measurements: map[string][]byte{
			"cpak": key[:], "rim": r.Initial, "implementation_id": p.Implementation, "firmware": firmware[:],
		},
		HardwareID: string(attest.CCA) + ":" + hex.EncodeToString(p.Instance),
	}
	for i, m := range r.Extensible {
		c.Measurements["rem"+strconv.Itoa(i)] = m
	}
	return c
}
