package cca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/appraised"
	"github.com/vouchmq/vouchmq/attest/internal/flipped"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	"github.com/vouchmq/vouchmq/internal/samples"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// machine makes tokens, as a machine and its realm management monitor do.
type machine struct {
	t        testing.TB
	platform *ecdsa.PrivateKey // CPAK
	realm    *ecdsa.PrivateKey // RAK
	coseKey  bool              // the RAK is shown as a COSE_Key
}

func newMachine(t testing.TB) *machine {
	return &machine{t: t, platform: newKey(t, elliptic.P384()), realm: newKey(t, elliptic.P384())}
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	return testkit.Must(ecdsa.GenerateKey(curve, rand.Reader))(t)
}

type claims map[int]any

// rak is the realm's key as the token shows it.
func (m *machine) rak() []byte {
	raw, err := m.realm.PublicKey.Bytes()
	if err != nil {
		m.t.Fatal(err)
	}
	if !m.coseKey {
		return raw
	}
	k, err := cose.NewKeyFromPublic(&m.realm.PublicKey)
	if err != nil {
		m.t.Fatal(err)
	}
	data, err := k.MarshalCBOR()
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}

func (m *machine) claims(challenge []byte) (platform, realm claims) {
	digest := sha256.Sum256(m.rak())
	platform = claims{
		10: digest[:], 256: slices.Repeat([]byte{1}, 33), 265: platformProfile, 2395: 0x3003, 2396: slices.Repeat([]byte{2}, 32),
		2399: []any{map[int]any{1: "BL", 2: []byte{3}, 5: []byte{4}}},
	}
	realm = claims{
		10: challenge, 44235: make([]byte, 64), 44236: "sha-256", 44237: m.rak(), 44238: slices.Repeat([]byte{5}, 32),
		44239: [][]byte{slices.Repeat([]byte{6}, 32), make([]byte, 32), make([]byte, 32), make([]byte, 32)}, 44240: "sha-256",
	}
	return platform, realm
}

func (m *machine) sign(key *ecdsa.PrivateKey, c claims) []byte {
	m.t.Helper()
	alg := cose.AlgorithmES384
	if key.Curve == elliptic.P256() {
		alg = cose.AlgorithmES256
	}
	signer, err := cose.NewSigner(alg, key)
	if err != nil {
		m.t.Fatal(err)
	}
	message := cose.NewSign1Message()
	message.Headers.Protected.SetAlgorithm(alg)
	if message.Payload, err = cbor.Marshal(c); err != nil {
		m.t.Fatal(err)
	}
	if err := message.Sign(rand.Reader, nil, signer); err != nil {
		m.t.Fatal(err)
	}
	data, err := message.MarshalCBOR()
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}

func (m *machine) token(platform, realm []byte) []byte {
	m.t.Helper()
	data, err := cbor.Marshal(cbor.Tag{Number: tokenTag, Content: map[int][]byte{44234: platform, 44241: realm}})
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}

func (m *machine) endorsement() []byte {
	der, err := x509.MarshalPKIXPublicKey(&m.platform.PublicKey)
	if err != nil {
		m.t.Fatal(err)
	}
	return der
}

// quote makes a quote after the claims have been changed.
func (m *machine) quote(challenge []byte, change func(platform, realm claims)) attest.Quote {
	p, r := m.claims(challenge)
	if change != nil {
		change(p, r)
	}
	return attest.Quote{Platform: attest.CCA, Data: m.token(m.sign(m.platform, p), m.sign(m.realm, r)), Endorsements: m.endorsement()}
}

func verify(q attest.Quote) (attest.PlatformClaims, error) {
	return NewVerifier().Verify(context.Background(), q, attest.ReportData{}, time.Time{})
}

var challenge = slices.Repeat([]byte{7}, challengeSize)

func TestToken(t *testing.T) {
	small := newMachine(t)
	small.platform, small.realm = newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	small.coseKey = true
	wrapped := newMachine(t)
	wrapped.coseKey = true
	for name, m := range map[string]*machine{"raw key": newMachine(t), "COSE_Key": wrapped, "ES256": small} {
		c, err := verify(m.quote(challenge, nil))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		key := attest.Sum(m.endorsement())
		if !slices.Equal(c.ReportData, challenge) || c.Debug || !slices.Equal(c.Measurements["cpak"], key[:]) ||
			!slices.Equal(c.Measurements["rim"], slices.Repeat([]byte{5}, 32)) || !slices.Equal(c.Measurements["rem0"], slices.Repeat([]byte{6}, 32)) {
			t.Errorf("%s: %+v", name, c)
		}
		if want := "cca:" + hex.EncodeToString(slices.Repeat([]byte{1}, 33)); c.HardwareID != want {
			t.Errorf("%s: %s, want %s", name, c.HardwareID, want)
		}
	}
}

func TestFaultyTokens(t *testing.T) {
	m, stranger := newMachine(t), newMachine(t)
	p, r := m.claims(challenge)
	strangerP, strangerR := stranger.claims(challenge)
	good := m.quote(challenge, nil)
	with := func(platform, realm []byte) attest.Quote {
		return attest.Quote{Platform: attest.CCA, Data: m.token(platform, realm), Endorsements: m.endorsement()}
	}
	changed := func(change func(p, r claims)) attest.Quote { return m.quote(challenge, change) }
	endorsed := func(e []byte) attest.Quote { q := good; q.Endorsements = e; return q }
	for name, test := range map[string]struct {
		quote attest.Quote
		want  attest.Kind
	}{
		"platform of a stranger":      {with(m.sign(stranger.platform, p), m.sign(m.realm, r)), attest.ErrSignature},
		"realm of a stranger":         {with(m.sign(m.platform, p), m.sign(stranger.realm, r)), attest.ErrSignature},
		"realm with its own key":      {with(m.sign(m.platform, p), stranger.sign(stranger.realm, strangerR)), attest.ErrSignature},
		"platform for another realm":  {with(stranger.sign(m.platform, strangerP), m.sign(m.realm, r)), attest.ErrSignature},
		"endorsed by another key":     {endorsed(stranger.endorsement()), attest.ErrSignature},
		"not endorsed":                {endorsed(nil), attest.ErrFormat},
		"endorsed by garbage":         {endorsed([]byte{1, 2}), attest.ErrFormat},
		"endorsed, and more":          {endorsed(append(m.endorsement(), 0)), attest.ErrFormat},
		"another profile":             {changed(func(p, _ claims) { p[265] = "http://arm.com/CCA-SSD/9.0.0" }), attest.ErrFormat},
		"short challenge":             {changed(func(_, r claims) { r[10] = challenge[:32] }), attest.ErrFormat},
		"three REMs":                  {changed(func(_, r claims) { r[44239] = [][]byte{{}, {}, {}} }), attest.ErrFormat},
		"RIM of another size":         {changed(func(_, r claims) { r[44238] = make([]byte, 48) }), attest.ErrFormat},
		"unknown digest":              {changed(func(_, r claims) { r[44236] = "md5" }), attest.ErrFormat},
		"unknown digest of the key":   {changed(func(_, r claims) { r[44240] = "md5" }), attest.ErrFormat},
		"RAK that is no key":          {changed(func(_, r claims) { r[44237] = make([]byte, 97) }), attest.ErrFormat},
		"no instance":                 {changed(func(p, _ claims) { delete(p, 256) }), attest.ErrFormat},
		"no implementation":           {changed(func(p, _ claims) { delete(p, 2396) }), attest.ErrFormat},
		"not a token":                 {attest.Quote{Platform: attest.CCA, Data: []byte{1}, Endorsements: m.endorsement()}, attest.ErrFormat},
		"too large":                   {attest.Quote{Platform: attest.CCA, Data: make([]byte, maxTokenSize+1)}, attest.ErrFormat},
		"platform token as the realm": {with(m.sign(m.platform, p), m.sign(m.platform, p)), attest.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := verify(test.quote); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v; %+v", err, test.want, c)
			}
		})
	}
}

func TestEachFlippedBit(t *testing.T) {
	q := newMachine(t).quote(challenge, nil)
	flipped.Each(t, q.Data, 11, nil, func(bad []byte) error {
		_, err := verify(attest.Quote{Platform: q.Platform, Data: bad, Endorsements: q.Endorsements})
		return err
	})
}

// realm attests with tokens of a machine.
type realm struct {
	*machine
	change func(platform, realm claims)
}

func (r realm) Platform() attest.Platform { return attest.CCA }

func (r realm) Attest(_ context.Context, data attest.ReportData) (attest.Quote, error) {
	return r.quote(data[:], r.change), nil
}

func TestAppraisal(t *testing.T) {
	m, stranger := newMachine(t), newMachine(t)
	key := attest.Sum(m.endorsement())
	p := appraised.Policy(t, policy.Requirement{Platform: attest.CCA, Want: map[string][]string{
		"cpak": {hex.EncodeToString(key[:])}, "rim": {hex.EncodeToString(slices.Repeat([]byte{5}, 32))},
	}})
	for name, test := range map[string]struct {
		realm
		want error
	}{
		"as it should be":     {realm{m, nil}, nil},
		"another challenge":   {realm{m, func(_, r claims) { r[10] = challenge }}, attest.ErrBinding},
		"zeros":               {realm{m, func(_, r claims) { r[10] = make([]byte, 64) }}, attest.ErrZeroReportData},
		"another realm":       {realm{m, func(_, r claims) { r[44238] = make([]byte, 32) }}, attest.ErrPlatform},
		"debug mode":          {realm{m, func(p, _ claims) { p[2395] = 0x4000 }}, attest.ErrDebug},
		"unknown lifecycle":   {realm{m, func(p, _ claims) { p[2395] = 0 }}, attest.ErrDebug},
		"machine of somebody": {realm{stranger, nil}, attest.ErrPlatform},
	} {
		t.Run(name, func(t *testing.T) {
			appraised.As(t, test.want, p, NewVerifier(), test.realm, time.Unix(0, 0))
		})
	}
}

// sample returns recorded evidence; the test is skipped where there is none.
func sample(t *testing.T, name string) []byte {
	t.Helper()
	return samples.Read(t, "cca/trustee/"+name)
}

func sampleKey(t *testing.T) []byte {
	t.Helper()
	var jwk struct{ X, Y string }
	if err := json.Unmarshal(sample(t, "cpak-pub.json"), &jwk); err != nil {
		t.Fatal(err)
	}
	point := []byte{4} // uncompressed (SEC 1, 2.3.3)
	for _, coordinate := range []string{jwk.X, jwk.Y} {
		b, err := base64.RawURLEncoding.DecodeString(coordinate)
		if err != nil {
			t.Fatal(err)
		}
		point = append(point, b...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestSample(t *testing.T) {
	q := attest.Quote{Platform: attest.CCA, Data: sample(t, "cca-example-token.cbor"), Endorsements: sampleKey(t)}
	c, err := verify(q)
	if err != nil {
		t.Fatal(err)
	}
	if c.Debug || len(c.ReportData) != 64 || len(c.Measurements["rim"]) != 64 {
		t.Errorf("%+v", c)
	}
	for i := 0; i < 8*len(q.Data); i += 11 {
		bad := q
		bad.Data = slices.Clone(q.Data)
		bad.Data[i/8] ^= 1 << (i % 8)
		if _, err := verify(bad); err == nil {
			t.Errorf("accepted with bit %d of byte %d flipped", i%8, i/8)
		}
	}
	q.Endorsements = newMachine(t).endorsement()
	if _, err := verify(q); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("with another key: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	m := newMachine(f)
	f.Add(m.quote(challenge, nil).Data)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		if parsed, err := parse(data); err == nil {
			_, _ = parsed.keyDigest()
			if c := parsed.claims(nil); len(c.ReportData) != challengeSize {
				t.Errorf("%+v", c)
			}
		}
	}))
}

// FuzzVerify goes on where FuzzParse ends: with the platform's key beside the token, which is whatever a peer sends.
func FuzzVerify(f *testing.F) {
	q := newMachine(f).quote(challenge, nil)
	f.Add(q.Data, q.Endorsements)
	f.Fuzz(fuzzbound.OfTwo(func(t *testing.T, data, key []byte) {
		q := attest.Quote{Platform: attest.CCA, Data: data, Endorsements: key}
		if c, err := verify(q); err == nil && (len(c.ReportData) != challengeSize || c.Measurements["cpak"] == nil) {
			t.Errorf("%+v", c)
		}
		_, _ = Describe(q)
	}))
}
