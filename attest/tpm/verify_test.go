package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/appraised"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	"github.com/vouchmq/vouchmq/internal/samples"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// fixture is a quote that a key in software signs, with everything that can be wrong with one.
type fixture struct {
	key              crypto.Signer
	scheme, hash     uint16
	attributes       uint32
	nameAlg          uint16
	magic            uint32
	kind             uint16
	safe             byte
	extra            []byte
	banks            []uint16
	bitmap           []byte
	pcrs             [][]byte
	pcrDigest        []byte // nil: as it should be
	afterQuote       []byte
	afterPublic      []byte
	exponent         uint32
	kdf              uint16
	wrongSignature   bool
	sigScheme        uint16
	changeEvidence   func(*evidence)
	log              []byte
	module           []byte
	endorsements     []byte
	certificateOf    func(*x509.Certificate)
	withCertificates bool
}

// keys are made once: those of RSA take their time.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	rsa2048, _ := rsa.GenerateKey(rand.Reader, 2048)
	rsa1024 := weakRSA()
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return map[string]crypto.Signer{"P-256": p256, "P-384": p384, "P-521": p521, "RSA 2048": rsa2048, "RSA 1024": rsa1024, "other": other}
})

// weakRSA is a key of a size that crypto/rsa makes no more; what it signs is never looked at.
func weakRSA() *rsa.PrivateKey {
	n := new(big.Int).Lsh(big.NewInt(1), 1023)
	return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}}
}

func good() *fixture {
	f := &fixture{
		key: keys()["P-256"], scheme: algECDSA, hash: algSHA256, attributes: akAttributes | 1<<6 | 1<<10, nameAlg: algSHA256, kdf: algNull,
		magic: generated, kind: typeQuote, safe: 1, extra: bytes.Repeat([]byte{7}, 32), banks: []uint16{algSHA256}, bitmap: []byte{0x03, 0x40, 0},
	}
	for i := range byte(3) { // PCR 0, 1, 14
		f.pcrs = append(f.pcrs, bytes.Repeat([]byte{0x10 + i}, 32))
	}
	return f
}

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func (f *fixture) public(t testing.TB) []byte {
	var b []byte
	sized := func(v []byte) { b = appendSized(b, v) }
	add := func(parts ...[]byte) { b = append(b, bytes.Join(parts, nil)...) }
	switch key := f.key.Public().(type) {
	case *rsa.PublicKey:
		add(be16(algRSA), be16(f.nameAlg), be32(f.attributes), be16(0), be16(algNull), be16(f.scheme), be16(f.hash))
		add(be16(uint16(key.N.BitLen())), be32(f.exponent))
		sized(key.N.Bytes())
	case *ecdsa.PublicKey:
		curve := map[elliptic.Curve]uint16{elliptic.P256(): curveP256, elliptic.P384(): curveP384, elliptic.P521(): 5}[key.Curve]
		add(be16(algECC), be16(f.nameAlg), be32(f.attributes), be16(0), be16(algNull), be16(f.scheme), be16(f.hash), be16(curve), be16(f.kdf))
		point, err := key.Bytes()
		must(t, err)
		half := (len(point) - 1) / 2
		sized(point[1 : 1+half])
		sized(point[1+half:])
	}
	return append(b, f.afterPublic...)
}

func (f *fixture) cryptoHash() crypto.Hash {
	if f.hash == algSHA384 {
		return crypto.SHA384
	}
	return crypto.SHA256
}

func (f *fixture) quote() []byte {
	b := append(be32(f.magic), be16(f.kind)...)
	b = appendSized(b, []byte("a qualified name"))
	b = appendSized(b, f.extra)
	b = append(b, make([]byte, 16)...)
	b = append(b, f.safe)
	b = append(b, 1, 2, 3, 4, 5, 6, 7, 8)
	b = append(b, be32(uint32(len(f.banks)))...)
	for _, bank := range f.banks {
		b = append(append(append(b, be16(bank)...), byte(len(f.bitmap))), f.bitmap...)
	}
	digest := f.pcrDigest
	if digest == nil {
		digest = pcrDigest(f.cryptoHash(), f.pcrs)
	}
	return append(appendSized(b, digest), f.afterQuote...)
}

func (f *fixture) signature(t testing.TB, message []byte) []byte {
	h := f.cryptoHash().New()
	h.Write(message)
	digest := h.Sum(nil)
	if f.wrongSignature {
		digest[0] ^= 1
	}
	scheme := f.scheme
	if f.sigScheme != 0 {
		scheme = f.sigScheme
	}
	b := append(be16(scheme), be16(f.hash)...)
	switch key := f.key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		must(t, err)
		return appendSized(appendSized(b, r.Bytes()), s.Bytes())
	case *rsa.PrivateKey:
		if key.D == nil {
			return appendSized(b, make([]byte, 128))
		}
		var options crypto.SignerOpts = f.cryptoHash()
		if f.scheme == algRSAPSS {
			options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: f.cryptoHash()}
		}
		signature, err := key.Sign(rand.Reader, digest, options)
		must(t, err)
		return appendSized(b, signature)
	}
	t.Fatal("no such key")
	return nil
}

func must(t testing.TB, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

func (f *fixture) make(t testing.TB) attest.Quote {
	t.Helper()
	e := evidence{Version: evidenceVersion, Attested: f.quote(), Public: f.public(t), PCRs: f.pcrs, Log: f.log, Module: f.module}
	e.Signature = f.signature(t, e.Attested)
	if f.changeEvidence != nil {
		f.changeEvidence(&e)
	}
	data, err := dcbor.Encode(e)
	must(t, err)
	q := attest.Quote{Platform: attest.TPM, Data: data, Endorsements: f.endorsements}
	if f.withCertificates || f.certificateOf != nil {
		q.Endorsements = f.certificates(t)
	}
	return q
}

// certificates are those of the key, by a CA of the test.
func (f *fixture) certificates(t testing.TB) []byte {
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	signer := keys()["other"]
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, signer.Public(), signer)
	must(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		Subject:            pkix.Name{CommonName: commonName(f.public(t)), SerialNumber: "tpm:" + hex.EncodeToString(make([]byte, 32))},
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{akUsage}, BasicConstraintsValid: true,
	}
	if f.certificateOf != nil {
		f.certificateOf(leaf)
	}
	public := f.key.Public()
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); ok {
		public = key
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, public, signer)
	must(t, err)
	return append(der, caDER...)
}

func verifyQuote(q attest.Quote, at time.Time) (attest.PlatformClaims, error) {
	return NewVerifier().Verify(context.Background(), q, attest.ReportData{}, at)
}

func TestVerify(t *testing.T) {
	for name, change := range map[string]func(*fixture){
		"P-256":         func(*fixture) {},
		"P-384":         func(f *fixture) { f.key, f.hash = keys()["P-384"], algSHA384 },
		"RSASSA":        func(f *fixture) { f.key, f.scheme = keys()["RSA 2048"], algRSASSA },
		"RSAPSS":        func(f *fixture) { f.key, f.scheme = keys()["RSA 2048"], algRSAPSS },
		"with exponent": func(f *fixture) { f.key, f.scheme, f.exponent = keys()["RSA 2048"], algRSASSA, 65537 },
		"certified":     func(f *fixture) { f.withCertificates = true },
		"two banks": func(f *fixture) {
			f.banks = append(f.banks, algSHA384)
			for i := range byte(3) {
				f.pcrs = append(f.pcrs, bytes.Repeat([]byte{0x20 + i}, 48))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := good()
			change(f)
			claims, err := verifyQuote(f.make(t), now)
			must(t, err)
			ak := KeyDigest(f.public(t))
			want := map[string][]byte{"ak": ak[:], "pcr0": f.pcrs[0], "pcr1": f.pcrs[1], "pcr14": f.pcrs[2]}
			if len(f.banks) == 2 {
				want["pcr0_sha384"], want["pcr1_sha384"], want["pcr14_sha384"] = f.pcrs[3], f.pcrs[4], f.pcrs[5]
			}
			if f.withCertificates {
				list, err := x509.ParseCertificates(f.certificates(t))
				must(t, err)
				ca := attest.Sum(list[1].RawSubjectPublicKeyInfo)
				want["ak_ca"] = ca[:]
				if claims.HardwareID == "" || !claims.Expiry.Equal(list[0].NotAfter) {
					t.Errorf("%+v", claims)
				}
			}
			if !maps.EqualFunc(claims.Measurements, want, bytes.Equal) || !bytes.Equal(claims.ReportData, f.extra) || claims.TCB != attest.TCBNotApplicable {
				t.Errorf("%+v", claims)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*fixture)
		want   attest.Kind
	}{
		"not made by a TPM":       {func(f *fixture) { f.magic = 0xff544348 }, attest.ErrFormat},
		"no quote":                {func(f *fixture) { f.kind = 0x8017 }, attest.ErrFormat},
		"safe":                    {func(f *fixture) { f.safe = 2 }, attest.ErrFormat},
		"SHA-1 bank":              {func(f *fixture) { f.banks[0] = 4 }, attest.ErrFormat},
		"SHA-512 bank":            {func(f *fixture) { f.banks[0] = 13 }, attest.ErrFormat},
		"no bank":                 {func(f *fixture) { f.banks = nil }, attest.ErrFormat},
		"a bank twice":            {func(f *fixture) { f.banks = []uint16{algSHA256, algSHA256} }, attest.ErrFormat},
		"three banks":             {func(f *fixture) { f.banks = []uint16{algSHA256, algSHA384, algSHA256} }, attest.ErrFormat},
		"32 PCRs":                 {func(f *fixture) { f.bitmap = append(f.bitmap, 0) }, attest.ErrFormat},
		"no PCR":                  {func(f *fixture) { f.bitmap, f.pcrs = make([]byte, 3), nil }, attest.ErrFormat},
		"a PCR is missing":        {func(f *fixture) { f.pcrs = f.pcrs[:2] }, attest.ErrFormat},
		"a PCR too many":          {func(f *fixture) { f.pcrs = append(f.pcrs, f.pcrs[0]) }, attest.ErrFormat},
		"a PCR of another size":   {func(f *fixture) { f.pcrs[1] = f.pcrs[1][1:] }, attest.ErrFormat},
		"more after the quote":    {func(f *fixture) { f.afterQuote = []byte{0} }, attest.ErrFormat},
		"more after the key":      {func(f *fixture) { f.afterPublic = []byte{0} }, attest.ErrFormat},
		"key can leave":           {func(f *fixture) { f.attributes &^= attrFixedTPM }, attest.ErrFormat},
		"key can move":            {func(f *fixture) { f.attributes &^= attrFixedParent }, attest.ErrFormat},
		"key came from outside":   {func(f *fixture) { f.attributes &^= attrSensitiveDataOrigin }, attest.ErrFormat},
		"key signs anything":      {func(f *fixture) { f.attributes &^= attrRestricted }, attest.ErrFormat},
		"key does not sign":       {func(f *fixture) { f.attributes &^= attrSign }, attest.ErrFormat},
		"key decrypts":            {func(f *fixture) { f.attributes |= attrDecrypt }, attest.ErrFormat},
		"name by SHA-1":           {func(f *fixture) { f.nameAlg = 4 }, attest.ErrFormat},
		"signs with SHA-1":        {func(f *fixture) { f.hash = 4 }, attest.ErrFormat},
		"weak RSA":                {func(f *fixture) { f.key, f.scheme = keys()["RSA 1024"], algRSASSA }, attest.ErrFormat},
		"exponent 3":              {func(f *fixture) { f.key, f.scheme, f.exponent = keys()["RSA 2048"], algRSASSA, 3 }, attest.ErrFormat},
		"RSA by another scheme":   {func(f *fixture) { f.key, f.scheme = keys()["RSA 2048"], algECDSA }, attest.ErrFormat},
		"ECC by another scheme":   {func(f *fixture) { f.scheme = 0x1a }, attest.ErrFormat},
		"P-521":                   {func(f *fixture) { f.key = keys()["P-521"] }, attest.ErrFormat},
		"KDF":                     {func(f *fixture) { f.kdf = 0x20 }, attest.ErrFormat},
		"not on the curve":        {func(f *fixture) { f.changeEvidence = func(e *evidence) { e.Public[len(e.Public)-1] ^= 1 } }, attest.ErrFormat},
		"version":                 {func(f *fixture) { f.changeEvidence = func(e *evidence) { e.Version++ } }, attest.ErrFormat},
		"no signature":            {func(f *fixture) { f.changeEvidence = func(e *evidence) { e.Signature = nil } }, attest.ErrSignature},
		"long signature":          {func(f *fixture) { f.changeEvidence = func(e *evidence) { e.Signature = make([]byte, maxPart+1) } }, attest.ErrFormat},
		"signature and more":      {func(f *fixture) { f.changeEvidence = func(e *evidence) { e.Signature = append(e.Signature, 0) } }, attest.ErrSignature},
		"signature of other data": {func(f *fixture) { f.wrongSignature = true }, attest.ErrSignature},
		"signature by another scheme": {func(f *fixture) {
			f.key, f.scheme, f.sigScheme = keys()["RSA 2048"], algRSASSA, algRSAPSS
		}, attest.ErrSignature},
		"signed by another key": {func(f *fixture) {
			other := good()
			other.key = keys()["other"]
			f.changeEvidence = func(e *evidence) { e.Public = other.public(t) }
		}, attest.ErrSignature},
		"forged PCR":                  {func(f *fixture) { f.changeEvidence = func(e *evidence) { e.PCRs[2] = make([]byte, 32) } }, attest.ErrSignature},
		"PCRs in another order":       {func(f *fixture) { f.changeEvidence = func(e *evidence) { slices.Reverse(e.PCRs) } }, attest.ErrSignature},
		"other digest of the PCRs":    {func(f *fixture) { f.pcrDigest = make([]byte, 32) }, attest.ErrSignature},
		"log that is none":            {func(f *fixture) { f.log = []byte("log") }, attest.ErrFormat},
		"module without a log":        {func(f *fixture) { f.module = make([]byte, 48) }, attest.ErrFormat},
		"one certificate":             {func(f *fixture) { f.endorsements = f.certificates(t)[:100] }, attest.ErrFormat},
		"endorsements that are empty": {func(f *fixture) { f.endorsements = []byte{} }, attest.ErrFormat},
		"certificate of another key": {func(f *fixture) {
			f.certificateOf = func(c *x509.Certificate) { c.PublicKey = keys()["other"].Public() }
		}, attest.ErrSignature},
		"certificate of another public area": {func(f *fixture) {
			f.certificateOf = func(c *x509.Certificate) { c.Subject.CommonName = "AK" }
		}, attest.ErrSignature},
		"certificate for something else": {func(f *fixture) {
			f.certificateOf = func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }
		}, attest.ErrSignature},
		"certificate of a CA": {func(f *fixture) { f.certificateOf = func(c *x509.Certificate) { c.IsCA = true } }, attest.ErrSignature},
		"certificate that has expired": {func(f *fixture) {
			f.certificateOf = func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }
		}, attest.ErrFreshness},
		"certificate that is not signed by its CA": {func(f *fixture) {
			ours := f.certificates(t)
			list, err := x509.ParseCertificates(ours)
			must(t, err)
			list[0].Signature[0] ^= 1
			signature := bytes.LastIndex(list[0].Raw, list[0].Signature[1:])
			ours[signature+8] ^= 1
			f.endorsements = ours
		}, attest.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			f := good()
			test.change(f)
			if _, err := verifyQuote(f.make(t), now); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
	if _, err := verifyQuote(attest.Quote{Data: make([]byte, maxEvidenceSize+1)}, now); !errors.Is(err, attest.ErrFormat) {
		t.Error(err)
	}
}

// A bit that is flipped anywhere must make the evidence be refused, the certificates included.
// machine is an attester with a key in software.
type machine struct {
	t *testing.T
	f *fixture
}

func (m machine) Platform() attest.Platform { return attest.TPM }

func (m machine) Attest(_ context.Context, data attest.ReportData) (attest.Quote, error) {
	if short := data.Short(); m.f.extra == nil {
		m.f.extra = short[:]
	}
	return m.f.make(m.t), nil
}

// TestAppraisal: what a policy refuses, each by its kind.
func TestAppraisal(t *testing.T) {
	certified := func(f *fixture) { f.withCertificates = true }
	ak := KeyDigest(good().public(t))
	reference := good()
	certified(reference)
	claims, err := verifyQuote(reference.make(t), now)
	must(t, err)
	ca, stranger := hex.EncodeToString(claims.Measurements["ak_ca"]), strings.Repeat("ab", 48)
	own := map[string][]string{"ak": {hex.EncodeToString(ak[:])}, "pcrs": {"14=" + strings.Repeat("12", 32)}}
	for name, test := range map[string]struct {
		change    func(*fixture)
		ask       map[string][]string
		instances []string
		want      error
	}{
		"as it should be":     {nil, own, nil, nil},
		"another nonce":       {func(f *fixture) { f.extra = bytes.Repeat([]byte{7}, 32) }, own, nil, attest.ErrBinding},
		"no nonce":            {func(f *fixture) { f.extra = []byte{} }, own, nil, attest.ErrBinding},
		"zeros":               {func(f *fixture) { f.extra = make([]byte, 32) }, own, nil, attest.ErrZeroReportData},
		"another PCR":         {func(f *fixture) { f.pcrs[2] = bytes.Repeat([]byte{0x13}, 32) }, own, nil, attest.ErrPlatform},
		"another key":         {func(f *fixture) { f.key = keys()["other"] }, own, nil, attest.ErrPlatform},
		"a PCR that is not":   {nil, map[string][]string{"ak": own["ak"], "pcrs": {"7=" + strings.Repeat("12", 32)}}, nil, attest.ErrPlatform},
		"certified":           {certified, map[string][]string{"ak_ca": {ca}}, []string{claims.HardwareID}, nil},
		"another machine":     {certified, map[string][]string{"ak_ca": {ca}}, []string{"tpm:" + strings.Repeat("ab", 32)}, attest.ErrInstance},
		"CA of somebody else": {certified, map[string][]string{"ak_ca": {stranger}}, nil, attest.ErrPlatform},
		"certified by nobody": {nil, map[string][]string{"ak_ca": {ca}}, nil, attest.ErrPlatform},
	} {
		t.Run(name, func(t *testing.T) {
			p := appraised.Policy(t, policy.Requirement{Platform: attest.TPM, Want: test.ask}, test.instances...)
			m := machine{t, good()}
			m.f.extra = nil
			if test.change != nil {
				test.change(m.f)
			}
			appraised.As(t, test.want, p, NewVerifier(), m, now)
		})
	}
}

func TestEachFlippedBit(t *testing.T) {
	f := good()
	f.withCertificates = true
	q := f.make(t)
	step := 1
	if testing.Short() {
		step = 7
	}
	for i := 0; i < 8*len(q.Data); i += step {
		bad := q
		bad.Data = slices.Clone(q.Data)
		bad.Data[i/8] ^= 1 << (i % 8)
		if _, err := verifyQuote(bad, now); err == nil {
			t.Errorf("accepted with bit %d of byte %d flipped", i%8, i/8)
		}
	}
	for i := 0; i < 8*len(q.Endorsements); i += step {
		bad := q
		bad.Endorsements = slices.Clone(q.Endorsements)
		bad.Endorsements[i/8] ^= 1 << (i % 8)
		// The signature of the CA's own certificate proves nothing, and is not looked at: the policy has the digest of its key.
		if claims, err := verifyQuote(bad, now); err == nil && !sameCA(t, q, claims) {
			t.Errorf("accepted, of another CA, with bit %d of byte %d of the certificates flipped", i%8, i/8)
		}
	}
}

func sameCA(t *testing.T, q attest.Quote, claims attest.PlatformClaims) bool {
	want, err := verifyQuote(q, now)
	must(t, err)
	return claims.HardwareID == want.HardwareID && bytes.Equal(claims.Measurements["ak_ca"], want.Measurements["ak_ca"])
}

// Our reading of the structures must be that of go-tpm.
func TestStructuresAgainstLibrary(t *testing.T) {
	f := good()
	q, err := tpm2.Unmarshal[tpm2.TPMSAttest](f.quote())
	must(t, err)
	if !bytes.Equal(q.ExtraData.Buffer, f.extra) || !bytes.Equal(tpm2.Marshal(q), f.quote()) {
		t.Errorf("%+v", q)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](f.public(t))
	must(t, err)
	if key, err := tpm2.Pub(*public); err != nil || !f.key.Public().(*ecdsa.PublicKey).Equal(key) {
		t.Error(err)
	}
	ak, err := parsePublic(tpm2.Marshal(akTemplate()))
	if err == nil || ak != nil {
		t.Error("a template without a key was taken for one") // its point is on no curve
	}
	objectName, err := tpm2.ObjectName(public)
	must(t, err)
	if !bytes.Equal(objectName.Buffer, name(f.public(t))) {
		t.Errorf("name is %x, want %x", name(f.public(t)), objectName.Buffer)
	}
}

// The sample has the key as SubjectPublicKeyInfo, of which an AK is made here: of this key nothing proves that it is in a TPM.
func TestSample(t *testing.T) {
	var s struct {
		Key   []byte `json:"ak_public"`
		Quote struct {
			Message   []byte   `json:"message"`
			Signature []byte   `json:"signature"`
			PCRs      []string `json:"pcrs"`
		} `json:"tpm_quote"`
	}
	must(t, json.Unmarshal(samples.Read(t, "tpm/trustee/tpm_evidence.json"), &s))
	key, err := x509.ParsePKIXPublicKey(s.Key)
	must(t, err)
	p := &public{key: key, scheme: algRSASSA, hash: crypto.SHA256}
	must(t, p.checkSignature(s.Quote.Message, s.Quote.Signature))
	a, err := parseAttested(s.Quote.Message)
	must(t, err)
	var values [][]byte
	for _, text := range s.Quote.PCRs {
		value, err := hex.DecodeString(text)
		must(t, err)
		values = append(values, value)
	}
	if len(a.banks) != 1 || len(a.banks[0].PCRs) != len(values) || !bytes.Equal(pcrDigest(crypto.SHA256, values), a.pcrDigest) {
		t.Errorf("PCRs are not those of the quote: %+v", a)
	}
	for i := range 8 * len(s.Quote.Message) {
		bad := slices.Clone(s.Quote.Message)
		bad[i/8] ^= 1 << (i % 8)
		if p.checkSignature(bad, s.Quote.Signature) == nil {
			t.Errorf("accepted with bit %d of byte %d flipped", i%8, i/8)
		}
	}
}

func FuzzParse(f *testing.F) {
	quote := good().make(f)
	f.Add(quote.Data)
	with := good()
	with.log = logOf(event{pcr: 0, kind: 1})
	f.Add(with.make(f).Data)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		p, err := parse(data)
		if err != nil {
			return
		}
		_ = p.check()
		if claims := p.claims(); len(claims.Measurements) != len(p.PCRs)+1 {
			t.Errorf("%+v", claims)
		}
	}))
}

func FuzzEventLog(f *testing.F) {
	f.Add(logOf(event{pcr: 0, kind: 1}, event{pcr: 14, kind: 13}))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		log, err := ParseEventLog(data)
		if err != nil {
			return
		}
		for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
			if pcrs, err := log.Replay(hash); err == nil && len(pcrs) > Registers {
				t.Errorf("%d PCRs", len(pcrs))
			}
		}
	}))
}

// FuzzVerify goes on where FuzzParse ends: with the certificates beside the quote, whose CA is whatever a peer sends.
func FuzzVerify(f *testing.F) {
	for _, with := range []bool{false, true} {
		from := good()
		from.withCertificates = with
		q := from.make(f)
		f.Add(q.Data, q.Endorsements)
	}
	f.Fuzz(fuzzbound.OfTwo(func(t *testing.T, data, certificates []byte) {
		c, err := verifyQuote(attest.Quote{Platform: attest.TPM, Data: data, Endorsements: certificates}, now)
		if err == nil && (c.Measurements["ak"] == nil || (c.Measurements["ak_ca"] == nil) != (len(certificates) == 0)) {
			t.Errorf("%+v", c)
		}
	}))
}
