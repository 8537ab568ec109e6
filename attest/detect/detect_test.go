package detect

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// quote makes the beginning of a quote, which is all that is looked at.
func quote(version uint16, tee uint32) []byte {
	b := make([]byte, quoteHeader+enclaveSize+4+8)
	binary.LittleEndian.PutUint16(b, version)
	binary.LittleEndian.PutUint16(b[2:], 2)
	binary.LittleEndian.PutUint32(b[4:], tee)
	copy(b[vendorAt:], intelVendor)
	binary.LittleEndian.PutUint32(b[quoteHeader+enclaveSize:], 8)
	b[len(b)-1] = 0xff
	return b
}

func own(t testing.TB) []byte {
	t.Helper()
	e := attest.Evidence{Claims: []byte{1}, Quote: attest.Quote{Platform: attest.Sim, Data: []byte{2}}, Proof: attest.Proof{N: 1}}
	data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func snp() []byte {
	b := make([]byte, reportSize)
	b[0], b[0x34] = 2, 1
	return b
}

func samples(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"VouchMQ": own(t), "SGX": quote(3, 0), "TDX quote": quote(4, teeTDX), "TDX": quote(5, teeTDX), "SEV-SNP": snp(),
		"Nitro": append([]byte{0x84, 0x44}, "...imodule_id"...), "CCA": {0xd9, 0x01, 0x8f, 0xa0},
		"TPM 2.0 quote (": []byte(quoteMagic + "..."), "HCL report": []byte(hclMagic + "..."), "evidence of a TPM": object(t, "sig"), "evidence of a confidential VM": object(t, "hcl"),
		"tagged": tagged(t, quote(3, 0), []byte{0xa0}),
	}
}

// object has the look of what our own attesters make.
func object(t testing.TB, key string) []byte {
	t.Helper()
	data, err := cbor.Marshal(map[string]any{"v": 1, key: []byte{1}, "attest": []byte(quoteMagic + "...")})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParts(t *testing.T) {
	quote := `{"message":"ff54","signature":"AQI=","pcrs":["00","01"]}`
	for text, want := range map[string]Parts{
		" " + quote: {Message: []byte{0xff, 0x54}, Signature: []byte{1, 2}, PCRs: [][]byte{{0}, {1}}},
		`{"ak_public":"_w","tpm_quote":` + quote + `}`:                  {Message: []byte{0xff, 0x54}, Signature: []byte{1, 2}, PCRs: [][]byte{{0}, {1}}, Key: []byte{0xff}},
		`{"hcl_report":"0a","td_quote":"0b","tpm_quote":` + quote + `}`: {Message: []byte{0xff, 0x54}, Signature: []byte{1, 2}, PCRs: [][]byte{{0}, {1}}, HCL: []byte{10}, TDQuote: []byte{11}},
		"\x00\x08" + quoteMagic + "..":                                  {Message: []byte(quoteMagic + "..")},
		hclMagic + "\x01":                                               {HCL: []byte(hclMagic + "\x01")},
	} {
		f, err := Detect([]byte(text))
		if err != nil || f.Parts == nil || !reflect.DeepEqual(*f.Parts, want) {
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
	f, err := Detect([]byte(`{"hcl_report":"0a","vcek":"0c"}`))
	if err != nil || f.Quote.Platform != attest.Azure || !bytes.Equal(f.Quote.Endorsements, []byte{12}) {
		t.Errorf("%+v, %v", f, err)
	}
	for _, text := range []string{`{"message":"?"}`, `{"message":"00","pcrs":["!"]}`, `{"message":1}`, `{"signature":"00"}`} {
		if _, err := Detect([]byte(text)); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestKinds(t *testing.T) {
	for name, data := range samples(t) {
		quoteHex, err := json.Marshal(map[string]string{"QuoteHex": hex.EncodeToString(data)})
		if err != nil {
			t.Fatal(err)
		}
		for wrapping, written := range map[string][]byte{
			"":                   data,
			"hexadecimal digits": []byte("0x" + strings.ToUpper(hex.EncodeToString(data)) + "\n"),
			"base64":             []byte(base64.StdEncoding.EncodeToString(data) + "\n"),
			"PEM":                pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: data}),
			"JSON with QuoteHex": quoteHex,
		} {
			f, err := Detect(written)
			if err != nil || !strings.Contains(f.Format, name) {
				t.Errorf("%s as %q: %+v, %v", name, wrapping, f, err)
				continue
			}
			if wrapping != "" && (len(f.Wrapping) == 0 || f.Wrapping[0] != wrapping) {
				t.Errorf("%s: wrapping is %q, want %q", name, f.Wrapping, wrapping)
			}
		}
	}
}

func TestUnknownIsToldWhatIsKnown(t *testing.T) {
	for _, data := range []string{"", "x", "what is this?", "[]", "\x30\x03\x02\x01\x01", "0x00"} {
		_, err := Detect([]byte(data))
		if !errors.Is(err, attest.ErrFormat) || len(data) > 0 && !strings.Contains(err.Error(), "AWS Nitro") {
			t.Errorf("%q: %v", data, err)
		}
	}
	if _, err := Detect(make([]byte, MaxSize+1)); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("too large: %v", err)
	}
}

// newKey makes a key, and gives its public half as certificates have it.
func newKey(t *testing.T) (key *ecdsa.PrivateKey, spki []byte) {
	t.Helper()
	key = testkit.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	return key, testkit.Must(x509.MarshalPKIXPublicKey(&key.PublicKey))(t)
}

// What belongs to evidence is named for what it is.
func TestBeside(t *testing.T) {
	key, spki := newKey(t)
	plain := certificate(t, asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0}, key)
	for text, want := range map[string]string{
		string(plain): `a certificate (of "CN=enclave")`,
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: plain})): "a certificate",
		string(spki):                       "a public key",
		`{"tcb_info":"","qe_identity":""}`: "Intel's collateral",
		`{"tcbInfo":{},"signature":""}`:    "TCB info",
		`{"enclaveIdentity":{}}`:           "QE identity",
		`{"kty":"EC"}`:                     "a key (JWK)",
		`{"claims":{}}`:                    "nothing that is signed",
		"\x00\x00\x00\x00\x03\x00\x00\x00" + strings.Repeat("\x00", 24) + "Spec ID Event03\x00": "an event log",
	} {
		if _, err := Detect([]byte(text)); !errors.Is(err, attest.ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func TestPaddingOfSGX(t *testing.T) {
	f, err := Detect(append(quote(3, 0), make([]byte, 100)...))
	if err != nil || !bytes.Equal(f.Quote.Data, quote(3, 0)) {
		t.Errorf("zeros behind a quote: %v", err)
	}
	dirty := append(quote(3, 0), 0, 1)
	if f, err = Detect(dirty); err != nil || !bytes.Equal(f.Quote.Data, dirty) {
		t.Errorf("something behind a quote must be left for the verifier to refuse: %v", err)
	}
}

func tagged(t testing.TB, quote, claims []byte) []byte {
	t.Helper()
	data, err := cbor.Marshal(cbor.Tag{Number: tagRATLS, Content: []any{quote, claims}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// certificate makes an RA-TLS certificate; extension makes the value from the digest of the key.
func certificate(t testing.TB, id asn1.ObjectIdentifier, value []byte, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "enclave"}, NotAfter: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		ExtraExtensions: []pkix.Extension{{Id: id, Value: value}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func padded(sum []byte) []byte { return append(bytes.Clone(sum), make([]byte, 64-len(sum))...) }

func TestRATLS(t *testing.T) {
	key, spki := newKey(t)
	keySum := sha512.Sum384(spki)
	entry, err := cbor.Marshal([]any{7, keySum[:]})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := cbor.Marshal(map[string]any{"pubkey-hash": entry})
	if err != nil {
		t.Fatal(err)
	}
	claimsSum, legacySum := sha256.Sum256(claims), sha256.Sum256(spki)
	for name, c := range map[string]struct {
		der  []byte
		want []byte
	}{
		"tagged": {certificate(t, oidTagged, tagged(t, quote(4, teeTDX), claims), key), padded(claimsSum[:])},
		"legacy": {certificate(t, oidLegacy, quote(3, 0), key), padded(legacySum[:])},
	} {
		f, err := Detect(c.der)
		if err != nil || f.RATLS == nil {
			t.Errorf("%s: %+v, %v", name, f, err)
			continue
		}
		if err := f.RATLS.Bound(c.want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.want[3] ^= 1
		if err := f.RATLS.Bound(c.want); !errors.Is(err, attest.ErrBinding) {
			t.Errorf("%s, other report data: %v", name, err)
		}
	}
}

// Nothing is nothing in each wrapping, too.
func TestNothing(t *testing.T) {
	for _, text := range []string{"", " \n", "0x", "-----BEGIN X-----\n-----END X-----\n"} {
		if f, err := Detect([]byte(text)); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
}

// A claims buffer that the quote signs, copied into a certificate of another key.
func TestRATLSOfAnotherKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := sha256.Sum256([]byte("another key"))
	claims, err := cbor.Marshal(map[string]any{"pubkey-hash": []any{1, other[:]}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := Detect(certificate(t, oidTagged, tagged(t, quote(3, 0), claims), key))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(claims)
	if err := f.RATLS.Bound(padded(sum[:])); !errors.Is(err, attest.ErrBinding) {
		t.Errorf("the claims name another key: %v", err)
	}
}

func FuzzDetect(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data)
		f.Add([]byte(hex.EncodeToString(data)))
	}
	f.Add([]byte(`{"hcl_report":"0a","vcek":"0c","tpm_quote":{"message":"ff54","signature":"AQI=","pcrs":["00","01"]}}`))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(certificate(f, oidTagged, tagged(f, quote(3, 0), []byte{0xa0}), key))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		found, err := Detect(data)
		if err != nil {
			return
		}
		if found.Format == "" || len(found.Quote.Data) == 0 && found.Evidence == nil {
			t.Fatalf("found nothing, and no error: %+v", found)
		}
		if found.RATLS != nil {
			found.RATLS.Bound(make([]byte, 64)) // must not panic
		}
	}))
}
