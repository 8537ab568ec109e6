package corim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

// everyKind is a policy with each kind of value that there is.
func everyKind(t testing.TB) *policy.Policy {
	t.Helper()
	h := func(c string, n int) string { return "'" + strings.Repeat(c, 2*n) + "'" }
	text := `version: 1
identities:
  broker:
    module: [sha384:` + strings.Repeat("a", 96) + `, sha384:` + strings.Repeat("b", 96) + `]
    config: [sha384:` + strings.Repeat("c", 96) + `]
    simulated: allow
    any_of:
      - sgx: { mrenclave: [` + h("1", 32) + `, ` + h("2", 32) + `], isv_prod_id: 1, min_isv_svn: 2, tcb: [UpToDate, SWHardeningNeeded], advisories: [INTEL-SA-00615] }
      - sevsnp: { measurement: [` + h("3", 48) + `], min_tcb: { snp: 8, microcode: 115 }, allow: [smt], vmpl: 0 }
      - tpm: { ak: [` + h("4", 32) + `], ak_ca: [` + h("7", 48) + `], pcrs: { 0: ` + h("5", 32) + `, 14: ` + h("6", 48) + ` } }
      - tdx: { mrtd: [` + h("a", 48) + `], service_tds: [` + h("b", 48) + `], tcb: [UpToDate] }
      - cca: { cpak: [` + h("7", 48) + `], rim: [` + h("8", 64) + `] }
      - sim: { key: [sha384:` + strings.Repeat("d", 96) + `], measurement: [sha384:` + strings.Repeat("e", 96) + `] }
    instances: ['sgx:00']
  sensor:
    module: [sha384:` + strings.Repeat("f", 96) + `]
    any_of: [ { nitro: { pcr0: [` + h("9", 48) + `] } } ]
`
	p, err := policy.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func encoded(t testing.TB) []byte {
	t.Helper()
	data, err := Encode("plant", everyKind(t).Identities())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	id, p, err := Decode(encoded(t))
	if err != nil {
		t.Fatal(err)
	}
	if id != "plant" || !bytes.Equal(p.Canonical(), everyKind(t).Canonical()) {
		t.Errorf("read %q:\n%s\nwrote:\n%s", id, p.YAML(), everyKind(t).YAML())
	}
}

func TestSignature(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		other, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		data, err := Sign(encoded(t), key, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(data, &key.PublicKey); err != nil || !Signed(data) {
			t.Errorf("%s: %v", curve.Params().Name, err)
		}
		if _, _, err := Open(data, &other.PublicKey); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s, another key: %v", curve.Params().Name, err)
		}
		changed := bytes.Replace(data, []byte("plant"), []byte("plans"), 1)
		if _, _, err := Open(changed, &key.PublicKey); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s, another id: %v", curve.Params().Name, err)
		}
	}
}

func TestWhatIsNotOfTheSubset(t *testing.T) {
	good := encoded(t)
	for name, data := range map[string][]byte{
		"nothing":       nil,
		"cut short":     good[:len(good)-1],
		"more":          append(bytes.Clone(good), 0),
		"another tag":   append([]byte{0xd9, 0x01, 0xf6}, good[3:]...),
		"other vendor":  bytes.ReplaceAll(good, []byte(vendor), []byte("VOUCHMQ")),
		"other model":   bytes.ReplaceAll(good, []byte("nitro"), []byte("nitre")),
		"unknown key":   bytes.ReplaceAll(good, []byte("mrenclave"), []byte("mrenclavf")),
		"unknown words": bytes.ReplaceAll(good, []byte("UpToDate"), []byte("UpToDatf")),
	} {
		if _, _, err := Decode(data); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, id := range everyKind(f).Identities() {
		for _, r := range id.AnyOf { // one by one: small inputs are changed faster
			data, err := Encode("x", []policy.Identity{{Name: "x", Modules: id.Modules[:1], Simulated: true, AnyOf: []policy.Requirement{r}}})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		id, p, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(id, p.Identities())
		if err != nil {
			t.Fatal(err)
		}
		if _, q, err := Decode(again); err != nil || !bytes.Equal(p.Canonical(), q.Canonical()) {
			t.Fatalf("what was read is not what is written: %v", err)
		}
	}))
}

// FuzzOpen reads arbitrary bytes as a signed CoRIM.
func FuzzOpen(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	signed, err := Sign([]byte{0xd9, 0x01, 0xf5, 0xa0}, key, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		if _, p, err := Open(data, &key.PublicKey); err == nil && p == nil {
			t.Error("no policy, and no error")
		}
	}))
}
