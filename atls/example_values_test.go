package atls_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"flag"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

var update = flag.Bool("update", false, "write the worked example of docs/attested-tls.md anew")

const (
	protocolPage = "../docs/attested-tls.md"
	exampleBegin = "```text example\n"
	exampleEnd   = "```\n"
	exampleTime  = 1_800_000_000 // seconds since 1970
)

// TestWorkedExample compares the example in the description of the protocol with what this code computes, and judges its
// evidence. -update writes it anew.
func TestWorkedExample(t *testing.T) {
	page := string(Must(os.ReadFile(protocolPage))(t))
	before, rest, found := strings.Cut(page, exampleBegin)
	written, after, ended := strings.Cut(rest, exampleEnd)
	if !found || !ended {
		t.Fatalf("%s has no worked example", protocolPage)
	}
	example := newExample(t)
	if *update {
		written = example.text.String()
		Must(0, os.WriteFile(protocolPage, []byte(before+exampleBegin+written+exampleEnd+after), 0o644))(t)
	}
	if got := example.text.String(); got != written {
		t.Errorf("the worked example of %s is not what this code computes: go test ./atls -run WorkedExample -update\n%s", protocolPage, got)
	}
	e := Must(attest.DecodeEvidence(example.evidence))(t)
	facts, err := attest.NewRegistry(sim.NewVerifier()).Verify(testContext(t), e, attest.PurposeConnection, example.claims.Binding, time.Unix(exampleTime, 0))
	if err != nil || facts.Identity != example.claims.Identity {
		t.Errorf("evidence of the example: %v, %+v", err, facts)
	}
}

// example is a connection of carrier p1 whose keys, nonce and secrets are fixed.
type example struct {
	t        testing.TB
	text     strings.Builder
	claims   attest.Claims
	evidence []byte
}

func newExample(t testing.TB) *example {
	x := &example{t: t}
	x.connection()
	x.identity()
	x.tree()
	x.quote()
	return x
}

// show adds a value; long ones go on in lines that begin with spaces.
func (x *example) show(name string, value []byte) {
	const width = 48 // bytes in a line
	fmt.Fprintf(&x.text, "%s =", name)
	for len(value) > width {
		fmt.Fprintf(&x.text, " %x\n   ", value[:width])
		value = value[width:]
	}
	fmt.Fprintf(&x.text, " %x\n", value)
}

// count returns n bytes that count from a first one.
func count(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// connection is what both sides know.
func (x *example) connection() {
	n := [32]byte(count(0, 32))
	x.show("nonce", n[:])
	fmt.Fprintf(&x.text, "server_name = %s.p1.%s\n", label(n), service)
	x.show("context_input", Must(dcbor.Encode([]any{1, 1, 1, 0, n[:], []byte{}}))(x.t))
	contextHash := Must(attest.ExporterContext(attest.RoleServer, attest.PhaseConnect, 0, n, nil))(x.t)
	x.show("context", contextHash)
	x.show("context_of_client", Must(attest.ExporterContext(attest.RoleClient, attest.PhaseConnect, 0, n, nil))(x.t))
	secret := count(0x60, 32)
	x.show("exporter_secret", secret)
	binder := exporter(x.t, secret, attest.ExporterLabel, contextHash)
	x.show("binder", binder)
	spki := Must(spki(smallKey(1)))(x.t)
	x.show("server_spki", spki)
	key := attest.Sum(spki)
	request := Must(dcbor.Encode([]any{1, "p1", "mqtt", 0x0304, 0x1301}))(x.t)
	x.show("request_input", request)
	x.claims.Binding = attest.Binding{
		Nonce: n, Binder: [32]byte(binder), Role: attest.RoleServer, Phase: attest.PhaseConnect,
		OwnKey: &key, Service: service, Request: attest.Sum(request),
	}
	x.show("request", x.claims.Request[:])
}

// identity is what the server says of itself.
func (x *example) identity() {
	x.claims.IssuedAt = exampleTime
	x.claims.Identity = attest.Identity{
		Module: attest.Sum([]byte("module")), Config: attest.Sum([]byte("configuration")), Runtime: attest.Sum([]byte("runtime")), Instance: "broker-1",
	}
	x.show("module", x.claims.Module[:])
	x.show("configuration", x.claims.Config[:])
	x.show("runtime", x.claims.Runtime[:])
	x.show("claims", Must(x.claims.Encode())(x.t))
}

// tree is what hardware signs, with a quote of its own and with one for three connections.
func (x *example) tree() {
	blind := [attest.BlindSize]byte(count(0x40, attest.BlindSize))
	x.show("blind", blind[:])
	leaf := attest.LeafHash(blind, Must(x.claims.Encode())(x.t))
	x.show("leaf", leaf[:])
	data := attest.ReportDataFor(attest.PurposeConnection, 1, leaf)
	short := data.Short()
	x.show("rd64", data[:])
	x.show("rd32", short[:])
	proof := attest.Proof{N: 3, I: 1, Path: []attest.Hash{attest.Hash(count(0x80, 32)), attest.Hash(count(0xa0, 32))}}
	root := Must(proof.Root(leaf))(x.t)
	x.show("root_1_of_3", root[:])
	data = attest.ReportDataFor(attest.PurposeConnection, 3, root)
	x.show("rd64_1_of_3", data[:])
}

// quote is the evidence as it travels.
func (x *example) quote() {
	key := attest.Sum(Must(spki(smallKey(2)))(x.t))
	x.show("sim_key", key[:])
	x.evidence = Must(attest.Make(testContext(x.t), &fixedAttester{x.t}, attest.PurposeConnection, &x.claims, bytes.NewReader(count(0x40, attest.BlindSize))))(x.t)
	x.show("frame", frameOf(x.evidence))
}

// fixedAttester is a simulated TEE whose signatures are always the same (RFC 6979).
type fixedAttester struct{ t testing.TB }

func (*fixedAttester) Platform() attest.Platform { return attest.Sim }

func (a *fixedAttester) Attest(_ context.Context, data attest.ReportData) (attest.Quote, error) {
	key := smallKey(2)
	type body struct {
		Profile     string   `cbor:"1,keyasint"`
		ReportData  []byte   `cbor:"2,keyasint"`
		Measurement []byte   `cbor:"3,keyasint"`
		PublicKey   []byte   `cbor:"4,keyasint"`
		Debug       bool     `cbor:"5,keyasint"`
		TCB         string   `cbor:"6,keyasint"`
		Advisories  []string `cbor:"7,keyasint"`
		Expiry      int64    `cbor:"8,keyasint"`
	}
	measured := attest.Sum([]byte("measurement"))
	payload := Must(dcbor.Encode(body{"tag:vouchmq.dev,2026:sim-INSECURE/1", data[:], measured[:], Must(spki(key))(a.t), false, "Simulated", nil, 0}))(a.t)
	header := Must(dcbor.Encode(map[int]int{1: -7}))(a.t)
	signed := Must(dcbor.Encode([]any{"Signature1", header, []byte("vouchmq/sim-INSECURE/v1"), payload}))(a.t)
	message := Must(dcbor.Encode([]any{header, map[int]int{}, payload, signature(a.t, key, signed)}))(a.t)
	return attest.Quote{Platform: attest.Sim, Data: append([]byte{0xd2}, message...)}, nil // 0xd2: tag 18
}

// signature is ES256 in the form of COSE: r and s, 32 bytes each.
func signature(t testing.TB, key *ecdsa.PrivateKey, signed []byte) []byte {
	digest := sha256.Sum256(signed)
	der := Must(key.Sign(nil, digest[:], crypto.SHA256))(t) // without randomness it is that of RFC 6979
	var parts struct{ R, S *big.Int }
	Must(asn1.Unmarshal(der, &parts))(t)
	return append(parts.R.FillBytes(make([]byte, 32)), parts.S.FillBytes(make([]byte, 32))...)
}

// smallKey is a key that protects nothing: its secret is a small number.
func smallKey(n byte) *ecdsa.PrivateKey {
	secret := make([]byte, 32)
	secret[31] = n
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret)
	if err != nil {
		panic(err)
	}
	return key
}

// exporter is the TLS exporter of RFC 8446, section 7.5, for a cipher suite with SHA-256.
func exporter(t testing.TB, secret []byte, label string, value []byte) []byte {
	empty, hashed := sha256.Sum256(nil), sha256.Sum256(value)
	return expandLabel(t, expandLabel(t, secret, label, empty[:]), "exporter", hashed[:])
}

// expandLabel is HKDF-Expand-Label of RFC 8446, section 7.1, of 32 bytes.
func expandLabel(t testing.TB, secret []byte, label string, value []byte) []byte {
	info := binary.BigEndian.AppendUint16(nil, 32)
	info = append(append(info, byte(6+len(label))), "tls13 "+label...)
	info = append(append(info, byte(len(value))), value...)
	return Must(hkdf.Expand(sha256.New, secret, string(info), 32))(t)
}
