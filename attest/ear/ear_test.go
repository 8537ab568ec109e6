package ear

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/veraison/go-cose"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func result() *Result {
	c := &attest.PlatformClaims{Platform: attest.TDX, TCB: attest.TCBSWHardeningNeeded, HardwareID: "tdx:00"}
	a := Appraise(c, true, true)
	a.Policies = []string{"sha384:00"}
	return &Result{
		Profile: Profile, IssuedAt: now.Unix(), Expires: now.Add(time.Hour).Unix(), Nonce: []byte("12345678"),
		Verifier: Verifier{"https://vouchmq.dev", "test"}, Submodules: map[string]Appraisal{"tdx": a},
	}
}

func key(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestWhatIsSignedIsRead(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		k := key(t, curve)
		data, err := Sign(result(), k, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Parse(data, &k.PublicKey)
		if err != nil || !reflect.DeepEqual(r, result()) {
			t.Errorf("%s: %+v, %v", curve.Params().Name, r, err)
		}
		if _, err := Parse(data, &key(t, curve).PublicKey); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s, another key: %v", curve.Params().Name, err)
		}
		if _, err := Parse(bytes.Replace(data, []byte("test"), []byte("tesT"), 1), &k.PublicKey); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s, changed: %v", curve.Params().Name, err)
		}
	}
}

// The draft's labels, written out, so that a change of them shows.
func TestLabels(t *testing.T) {
	k := key(t, elliptic.P256())
	data, err := Sign(result(), k, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var m cose.Sign1Message
	var claims map[int]any
	if err := m.UnmarshalCBOR(data); err != nil {
		t.Fatal(err)
	}
	if err := dcbor.DecodeLenient(m.Payload, &claims); err != nil {
		t.Fatal(err)
	}
	tdx := claims[266].(map[any]any)["tdx"].(map[any]any)
	vector := tdx[uint64(1001)].(map[any]any)
	if claims[265] != "tag:ietf.org,2026:rats/ear#03" || claims[6] != uint64(now.Unix()) || claims[4] != uint64(now.Unix()+3600) ||
		!bytes.Equal(claims[10].([]byte), []byte("12345678")) || claims[1004] == nil || tdx[uint64(1000)] != uint64(32) || tdx[uint64(1003)] == nil ||
		vector[uint64(0)] != uint64(2) || vector[uint64(2)] != uint64(2) || vector[uint64(4)] != uint64(32) || vector[uint64(5)] != uint64(2) {
		t.Errorf("claims: %v", claims)
	}
}

func TestAppraise(t *testing.T) {
	for _, c := range []struct {
		name              string
		claims            attest.PlatformClaims
		accepted, modules bool
		status, hardware  Tier
	}{
		{"current", attest.PlatformClaims{Platform: attest.SGX, TCB: attest.TCBUpToDate}, true, true, Affirming, Affirming},
		{"bare quote", attest.PlatformClaims{Platform: attest.SGX, TCB: attest.TCBUpToDate}, true, false, Warning, Affirming},
		{"refused", attest.PlatformClaims{Platform: attest.SGX, TCB: attest.TCBUpToDate}, false, true, Contraindicated, Affirming},
		{"old", attest.PlatformClaims{Platform: attest.TDX, TCB: attest.TCBOutOfDate}, true, true, Contraindicated, Contraindicated},
		{"condition", attest.PlatformClaims{Platform: attest.SEVSNP, TCB: attest.TCBNotApplicable, Conditions: []string{"smt"}}, true, true, Warning, Affirming},
		{"debug", attest.PlatformClaims{Platform: attest.SGX, TCB: attest.TCBUpToDate, Debug: true}, true, true, Contraindicated, Contraindicated},
		{"simulated", attest.PlatformClaims{Platform: attest.Sim, TCB: attest.TCBSimulated}, true, true, Contraindicated, Contraindicated},
	} {
		a := Appraise(&c.claims, c.accepted, c.modules)
		if a.Status != c.status || a.Vector.Hardware != c.hardware {
			t.Errorf("%s: status %v, hardware %v", c.name, a.Status, a.Vector.Hardware)
		}
	}
}

func TestWhatIsNoResult(t *testing.T) {
	k := key(t, elliptic.P256())
	for name, change := range map[string]func(*Result){
		"profile": func(r *Result) { r.Profile = "other" },
		"times":   func(r *Result) { r.Expires = r.IssuedAt },
		"nonce":   func(r *Result) { r.Nonce = []byte{1} },
		"empty":   func(r *Result) { r.Submodules = nil },
		"no tier": func(r *Result) { r.Submodules["tdx"] = Appraisal{Status: 3} },
		"worse": func(r *Result) {
			r.Submodules["tdx"] = Appraisal{Status: Affirming, Vector: &Vector{Hardware: Contraindicated}}
		},
		"controls": func(r *Result) { r.Verifier.Build = "\x1b[2J" },
	} {
		r := result()
		change(r)
		if _, err := Sign(r, k, rand.Reader); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: signed: %v", name, err)
		}
		payload, err := dcbor.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(payload); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: read: %v", name, err)
		}
	}
}

func TestTimes(t *testing.T) {
	r := result()
	for at, good := range map[time.Time]bool{now: true, now.Add(time.Hour): false, now.Add(-time.Hour): false} {
		if err := r.CheckTime(at); (err == nil) != good || err != nil && !errors.Is(err, attest.ErrFreshness) {
			t.Errorf("at %v: %v", at, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	payload, err := dcbor.Encode(result())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		r, err := decode(data)
		if err != nil {
			return
		}
		if again, err := dcbor.Encode(r); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("two encodings of one result: %x, %v", again, err)
		}
	}))
}

// FuzzParse reads arbitrary bytes as a signed result.
func FuzzParse(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	signed, err := Sign(result(), key, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		if r, err := Parse(data, &key.PublicKey); err == nil && r == nil {
			t.Error("no result, and no error")
		}
	}))
}
