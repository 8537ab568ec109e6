package attest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

func exampleClaims() *attest.Claims {
	key := attest.Sum([]byte("key"))
	c := &attest.Claims{IssuedAt: 1_700_000_000, Identity: attest.Identity{Module: attest.Digest{1}, Config: attest.Digest{2}, Runtime: attest.Digest{3}, Instance: "broker-1"}}
	c.Nonce, c.Binder, c.Role, c.Phase, c.OwnKey = [32]byte{4}, [32]byte{5}, attest.RoleServer, attest.PhaseConnect, &key
	c.Service, c.Request = "plant.example", attest.Digest{6}
	return c
}

// TestFormula pins the bytes of the binding formula: whoever changes them makes another protocol.
func TestFormula(t *testing.T) {
	encoded := Must(exampleClaims().Encode())(t)
	leaf := attest.LeafHash([16]byte{7}, encoded)
	rd := attest.ReportDataFor(attest.PurposeConnection, 1, leaf)
	short := rd.Short()
	ctx := Must(attest.ExporterContext(attest.RoleClient, attest.PhaseReattest, 3, [32]byte{8}, []byte{9}))(t)
	for name, pair := range map[string][2]string{
		"claims begin":     {hex.EncodeToString(encoded[:8]), goldenClaims},
		"claims":           {attest.Sum(encoded).Short(), goldenClaimsDigest},
		"leaf":             {hex.EncodeToString(leaf[:8]), goldenLeaf},
		"RD64":             {hex.EncodeToString(rd[:8]), goldenRD64},
		"RD32":             {hex.EncodeToString(short[:8]), goldenRD32},
		"exporter context": {hex.EncodeToString(ctx[:8]), goldenContext},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s, want %s", name, pair[0], pair[1])
		}
	}
}

func TestClaimsRoundTrip(t *testing.T) {
	encoded := Must(exampleClaims().Encode())(t)
	c := Must(attest.DecodeClaims(encoded))(t)
	if again := Must(c.Encode())(t); !bytes.Equal(again, encoded) {
		t.Error("claims changed on their way")
	}
	for i := range encoded {
		if _, err := attest.DecodeClaims(encoded[:i]); !errors.Is(err, attest.ErrFormat) {
			t.Fatalf("accepted the first %d bytes: %v", i, err)
		}
	}
	if _, err := attest.DecodeClaims(append(encoded, 0)); !errors.Is(err, attest.ErrFormat) {
		t.Error("accepted a trailing byte")
	}
}

func TestClaimsRefused(t *testing.T) {
	valid := func() map[int]any {
		return map[int]any{
			6: 0, 10: [][]byte{make([]byte, 32), make([]byte, 32)}, 265: attest.Profile,
			-70001: 1, -70002: 1, -70003: 0, -70004: nil, -70005: nil, -70006: "s", -70007: make([]byte, 48),
			-70008: make([]byte, 48), -70009: make([]byte, 48), -70010: "", -70011: make([]byte, 48), -70012: nil,
		}
	}
	if _, err := attest.DecodeClaims(Must(dcbor.Encode(valid()))(t)); err != nil {
		t.Fatal("control:", err)
	}
	for name, change := range map[string]func(map[int]any){
		"unknown key":       func(m map[int]any) { m[-70013] = 1 },
		"missing key":       func(m map[int]any) { delete(m, -70012) },
		"profile":           func(m map[int]any) { m[265] = "tag:vouchmq.dev,2026:atls/2" },
		"short nonce":       func(m map[int]any) { m[10] = [][]byte{make([]byte, 31), make([]byte, 32)} },
		"three nonces":      func(m map[int]any) { m[10] = [][]byte{make([]byte, 32), make([]byte, 32), {}} },
		"short digest":      func(m map[int]any) { m[-70007] = make([]byte, 47) },
		"module null":       func(m map[int]any) { m[-70007] = nil },
		"empty key digest":  func(m map[int]any) { m[-70004] = []byte{} },
		"service too long":  func(m map[int]any) { m[-70006] = strings.Repeat("a", 191) },
		"instance control":  func(m map[int]any) { m[-70010] = "\x1b[2J" },
		"role out of range": func(m map[int]any) { m[-70001] = 300 },
	} {
		m := valid()
		change(m)
		if _, err := attest.DecodeClaims(Must(dcbor.Encode(m))(t)); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// tree builds a batch tree by the recursive definition of RFC 9162, section 2.1.1, and 2.1.3.1 for the path.
func tree(leaves []attest.Hash) attest.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := split(len(leaves))
	return attest.NodeHash(tree(leaves[:k]), tree(leaves[k:]))
}

func path(leaves []attest.Hash, i int) []attest.Hash {
	if len(leaves) == 1 {
		return nil
	}
	if k := split(len(leaves)); i < k {
		return append(path(leaves[:k], i), tree(leaves[k:]))
	} else {
		return append(path(leaves[k:], i-k), tree(leaves[:k]))
	}
}

func split(n int) int {
	k := 1
	for 2*k < n {
		k *= 2
	}
	return k
}

func someLeaves(n int) []attest.Hash {
	leaves := make([]attest.Hash, n)
	for i := range leaves {
		leaves[i] = attest.LeafHash([16]byte{byte(i), byte(i >> 8)}, []byte("claims"))
	}
	return leaves
}

// TestProofComplete: every leaf of every tree has a proof; TestProofSound: nothing else has.
func TestProofComplete(t *testing.T) {
	for n := 1; n <= 70; n++ {
		leaves := someLeaves(n)
		root := tree(leaves)
		for i := range n {
			p := attest.Proof{N: uint64(n), I: uint64(i), Path: path(leaves, i)}
			if got, err := p.Root(leaves[i]); err != nil || got != root {
				t.Fatalf("leaf %d of %d: %v", i, n, err)
			}
		}
	}
	leaves := someLeaves(attest.MaxBatch)
	p := attest.Proof{N: attest.MaxBatch, I: 1023, Path: path(leaves, 1023)}
	if got, err := p.Root(leaves[1023]); err != nil || got != tree(leaves) {
		t.Fatal("largest batch:", err)
	}
}

func TestProofSound(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	for range 20000 {
		n := 1 + random.IntN(70)
		leaves := someLeaves(n)
		i := random.IntN(n)
		p := attest.Proof{N: uint64(n), I: uint64(i), Path: path(leaves, i)}
		leaf := leaves[i]
		// The report data covers n and the root, so a proof is forged if both stay the same.
		switch want := attest.ReportDataFor(1, p.N, tree(leaves)); random.IntN(6) {
		case 0:
			p.I = uint64(random.IntN(n + 2))
			check(t, p, leaf, want, p.I == uint64(i))
		case 1:
			p.N = uint64(random.IntN(n + 40))
			check(t, p, leaf, want, p.N == uint64(n))
		case 2:
			p.Path = append(p.Path, attest.Hash{})
			check(t, p, leaf, want, false)
		case 3:
			if len(p.Path) > 0 {
				p.Path = p.Path[:len(p.Path)-1]
				check(t, p, leaf, want, false)
			}
		case 4:
			if len(p.Path) > 0 {
				p.Path[random.IntN(len(p.Path))][random.IntN(32)] ^= 1
				check(t, p, leaf, want, false)
			}
		case 5:
			leaf[random.IntN(32)] ^= 1
			check(t, p, leaf, want, false)
		}
	}
}

func check(t *testing.T, p attest.Proof, leaf attest.Hash, want attest.ReportData, valid bool) {
	t.Helper()
	root, err := p.Root(leaf)
	if got := err == nil && attest.ReportDataFor(1, p.N, root) == want; got != valid {
		t.Fatalf("leaf %d of %d with a path of %d: accepted is %v", p.I, p.N, len(p.Path), got)
	}
}

func TestProofBounds(t *testing.T) {
	for _, p := range []attest.Proof{{N: 0}, {N: 1, I: 1}, {N: 1025}, {N: 1 << 63, I: 1<<63 - 1}} {
		if _, err := p.Root(attest.Hash{}); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// TestProofLength: a path that is too long or too short is malformed, whatever it hashes to.
func TestProofLength(t *testing.T) {
	for n := uint64(1); n <= 70; n++ {
		p := attest.Proof{N: n, I: n - 1, Path: path(someLeaves(int(n)), int(n)-1)}
		long, short := p, p
		long.Path = append(long.Path, attest.Hash{})
		if _, err := long.Root(attest.Hash{}); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("n=%d, one hash too many: %v", n, err)
		}
		if n == 1 {
			continue
		}
		short.Path = short.Path[1:]
		if _, err := short.Root(attest.Hash{}); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("n=%d, one hash too few: %v", n, err)
		}
	}
}

func TestEvidenceRoundTrip(t *testing.T) {
	leaves := someLeaves(5)
	e := attest.Evidence{
		Claims: Must(exampleClaims().Encode())(t),
		Quote:  attest.Quote{Platform: attest.TDX, Data: []byte("quote"), Endorsements: []byte("certificates")},
		Blind:  [16]byte{1},
		Proof:  attest.Proof{N: 5, I: 2, Path: path(leaves, 2)},
	}
	encoded := Must(e.Encode())(t)
	got := Must(attest.DecodeEvidence(encoded))(t)
	if again := Must(got.Encode())(t); !bytes.Equal(again, encoded) {
		t.Error("evidence changed on its way")
	}
	for i := range encoded {
		if _, err := attest.DecodeEvidence(encoded[:i]); !errors.Is(err, attest.ErrFormat) {
			t.Fatalf("accepted the first %d bytes: %v", i, err)
		}
	}
	e.Quote.Endorsements = make([]byte, attest.MaxEvidenceSize)
	if _, err := e.Encode(); !errors.Is(err, attest.ErrFormat) {
		t.Error("wrote evidence that is too large:", err)
	}
	if _, err := attest.DecodeEvidence(make([]byte, attest.MaxEvidenceSize+1)); !errors.Is(err, attest.ErrFormat) {
		t.Error("read evidence that is too large:", err)
	}
}

// driver is a verifier that says what a test wants.
type driver struct {
	platform attest.Platform
	claims   func(want attest.ReportData) attest.PlatformClaims
}

func (d driver) Platform() attest.Platform { return d.platform }

func (d driver) Attest(_ context.Context, data attest.ReportData) (attest.Quote, error) {
	return attest.Quote{Platform: d.platform, Data: data[:]}, nil
}

func (d driver) Verify(_ context.Context, _ attest.Quote, want attest.ReportData, _ time.Time) (attest.PlatformClaims, error) {
	c := d.claims(want)
	return c, nil
}

// TestWhatDoesNotMatchIsNamed: report data would not match either, and would not say why.
func TestWhatDoesNotMatchIsNamed(t *testing.T) {
	e, want := evidenceOf(t, newAttester(t, sim.Faults{}))
	r := attest.NewRegistry(sim.NewVerifier())
	other := attest.Digest{9}
	for text, change := range map[string]func(*attest.Binding){
		"it was reflected":            func(b *attest.Binding) { b.Role = attest.RoleClient },
		"answers another nonce":       func(b *attest.Binding) { b.Nonce[0]++ },
		"another TLS connection":      func(b *attest.Binding) { b.Binder[0]++ },
		"sequence 0":                  func(b *attest.Binding) { b.Seq++ },
		"(phase 1":                    func(b *attest.Binding) { b.Phase = attest.PhaseReattest },
		"the peer's certificate":      func(b *attest.Binding) { b.OwnKey = &other },
		"peer saw another TLS key":    func(b *attest.Binding) { b.PeerKey = &other },
		`for service "plant.example"`: func(b *attest.Binding) { b.Service = "other.example" },
		"a downgrade":                 func(b *attest.Binding) { b.Request[0]++ },
	} {
		b := want
		change(&b)
		if _, err := r.Verify(t.Context(), e, attest.PurposeConnection, b, time.Now()); !errors.Is(err, attest.ErrBinding) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not say %q", err, text)
		}
	}
}

// TestGuestDataIsNoConnection: evidence of what a guest says is not taken for that of a connection, and the error says what it is.
func TestGuestDataIsNoConnection(t *testing.T) {
	claims := exampleClaims()
	claims.Guest = &attest.Digest{1}
	e := Must(attest.DecodeEvidence(Must(attest.Make(t.Context(), newAttester(t, sim.Faults{}), attest.PurposeConnection, claims, rand.Reader))(t)))(t)
	_, err := attest.NewRegistry(sim.NewVerifier()).Verify(t.Context(), e, attest.PurposeConnection, claims.Binding, time.Now())
	if !errors.Is(err, attest.ErrFormat) {
		t.Error(err)
	}
}

// TestLargestBatch: the last leaf of a larger tree has a short proof, so that its length does not bound the tree.
func TestLargestBatch(t *testing.T) {
	proof := attest.Proof{N: attest.MaxBatch + 1, I: attest.MaxBatch, Path: make([]attest.Hash, 1)}
	if _, err := proof.Root(attest.Hash{}); !errors.Is(err, attest.ErrFormat) {
		t.Error(err)
	}
}

// TestComparisonOfReportData: drivers that forget to compare, or return something odd, gain nothing.
func TestComparisonOfReportData(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for name, test := range map[string]struct {
		platform attest.Platform
		claims   func(want attest.ReportData) attest.PlatformClaims
		kind     attest.Kind
	}{
		"right": {attest.TDX, func(w attest.ReportData) attest.PlatformClaims {
			return attest.PlatformClaims{Platform: attest.TDX, ReportData: w[:]}
		}, 0},
		"right, short": {attest.TPM, func(w attest.ReportData) attest.PlatformClaims {
			s := w.Short()
			return attest.PlatformClaims{Platform: attest.TPM, ReportData: s[:]}
		}, 0},
		"none": {attest.TDX, func(attest.ReportData) attest.PlatformClaims { return attest.PlatformClaims{Platform: attest.TDX} }, attest.ErrZeroReportData},
		"zero": {attest.TDX, func(attest.ReportData) attest.PlatformClaims {
			return attest.PlatformClaims{Platform: attest.TDX, ReportData: make([]byte, 64)}
		}, attest.ErrZeroReportData},
		"last bit": {attest.TDX, func(w attest.ReportData) attest.PlatformClaims {
			w[63] ^= 1
			return attest.PlatformClaims{Platform: attest.TDX, ReportData: w[:]}
		}, attest.ErrBinding},
		"short where long is due": {attest.TDX, func(w attest.ReportData) attest.PlatformClaims {
			s := w.Short()
			return attest.PlatformClaims{Platform: attest.TDX, ReportData: s[:]}
		}, attest.ErrBinding},
		"prefix": {attest.TDX, func(w attest.ReportData) attest.PlatformClaims {
			return attest.PlatformClaims{Platform: attest.TDX, ReportData: w[:63]}
		}, attest.ErrBinding},
		"other platform": {attest.TDX, func(w attest.ReportData) attest.PlatformClaims {
			return attest.PlatformClaims{Platform: attest.SGX, ReportData: w[:]}
		}, attest.ErrFormat},
		"expires now": {attest.TDX, func(w attest.ReportData) attest.PlatformClaims {
			return attest.PlatformClaims{Platform: attest.TDX, ReportData: w[:], Expiry: now}
		}, attest.ErrFreshness},
		"expires later": {attest.TDX, func(w attest.ReportData) attest.PlatformClaims {
			return attest.PlatformClaims{Platform: attest.TDX, ReportData: w[:], Expiry: now.Add(1)}
		}, 0},
	} {
		d := driver{test.platform, test.claims}
		claims := exampleClaims()
		encoded := Must(attest.Make(context.Background(), d, attest.PurposeConnection, claims, rand.Reader))(t)
		e := Must(attest.DecodeEvidence(encoded))(t)
		facts, err := attest.NewRegistry(d).Verify(context.Background(), e, attest.PurposeConnection, claims.Binding, now)
		if test.kind == 0 && err != nil || test.kind != 0 && !errors.Is(err, test.kind) || (facts == nil) != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVerifyBatched: evidence that shares a quote with others verifies through its proof.
func TestVerifyBatched(t *testing.T) {
	leaves := someLeaves(6)
	claims := exampleClaims()
	e := attest.Evidence{Claims: Must(claims.Encode())(t), Blind: [16]byte{1}, Proof: attest.Proof{N: 6, I: 4}}
	leaves[4] = attest.LeafHash(e.Blind, e.Claims)
	e.Proof.Path = path(leaves, 4)
	key := Must(sim.NewKey())(t)
	quote := Must(sim.NewAttester(key, attest.Digest{}).Attest(context.Background(), attest.ReportDataFor(attest.PurposeConnection, 6, tree(leaves))))(t)
	e.Quote = quote
	r := attest.NewRegistry(sim.NewVerifier())
	if _, err := r.Verify(context.Background(), &e, attest.PurposeConnection, claims.Binding, time.Now()); err != nil {
		t.Error(err)
	}
	e.Proof.I = 5
	if _, err := r.Verify(context.Background(), &e, attest.PurposeConnection, claims.Binding, time.Now()); err == nil {
		t.Error("accepted the proof of another leaf")
	}
}

func TestNoDriver(t *testing.T) {
	claims := exampleClaims()
	d := driver{platform: attest.SGX}
	e := Must(attest.DecodeEvidence(Must(attest.Make(context.Background(), d, attest.PurposeConnection, claims, rand.Reader))(t)))(t)
	_, err := attest.NewRegistry(sim.NewVerifier()).Verify(context.Background(), e, attest.PurposeConnection, claims.Binding, time.Now())
	if !errors.Is(err, attest.ErrPlatform) || !strings.Contains(err.Error(), "no driver") {
		t.Error(err)
	}
}

func TestKinds(t *testing.T) {
	err := attest.Errorf(attest.ErrRole, "text: %w", context.Canceled)
	for _, target := range []error{attest.ErrRole, attest.ErrBinding, context.Canceled} {
		if !errors.Is(err, target) {
			t.Errorf("%v is not %v", err, target)
		}
	}
	for _, target := range []error{attest.ErrPolicy, attest.ErrZeroReportData, attest.Kind(0), attest.Kind(200)} {
		if errors.Is(err, target) {
			t.Errorf("%v is %v", err, target)
		}
	}
}

func TestDigestText(t *testing.T) {
	d := attest.Sum([]byte("x"))
	if got, err := attest.ParseDigest(d.String()); err != nil || got != d {
		t.Error(got, err)
	}
	for _, bad := range []string{"", "sha384:", "sha256:" + strings.Repeat("0", 96), "sha384:" + strings.Repeat("0", 95), "sha384:" + strings.Repeat("A", 96), "sha384:" + strings.Repeat("g", 96)} {
		if _, err := attest.ParseDigest(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}
