package attest_test

import (
	"bytes"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// The same structures for the general decoder, which is what the readers of a fixed shape are compared with.
type (
	claimsWire struct {
		Nonce    [][]byte `cbor:"10,keyasint"`
		Profile  string   `cbor:"265,keyasint"`
		IssuedAt int64    `cbor:"6,keyasint"`
		Role     uint8    `cbor:"-70001,keyasint"`
		Phase    uint8    `cbor:"-70002,keyasint"`
		Seq      uint64   `cbor:"-70003,keyasint"`
		OwnKey   []byte   `cbor:"-70004,keyasint"`
		PeerKey  []byte   `cbor:"-70005,keyasint"`
		Service  string   `cbor:"-70006,keyasint"`
		Module   []byte   `cbor:"-70007,keyasint"`
		Config   []byte   `cbor:"-70008,keyasint"`
		Runtime  []byte   `cbor:"-70009,keyasint"`
		Instance string   `cbor:"-70010,keyasint"`
		Request  []byte   `cbor:"-70011,keyasint"`
		Guest    []byte   `cbor:"-70012,keyasint"`
	}
	recordWire struct {
		_     struct{} `cbor:",toarray"`
		Type  string
		Value []byte
		Ind   uint64
	}
	evidenceWire struct {
		Type         string      `cbor:"__cmwc_t"`
		Claims       recordWire  `cbor:"c"`
		Quote        recordWire  `cbor:"q"`
		Batch        recordWire  `cbor:"m"`
		Endorsements *recordWire `cbor:"e,omitempty"`
	}
	batchWire struct {
		N     uint64   `cbor:"n"`
		I     uint64   `cbor:"i"`
		Blind []byte   `cbor:"blind"`
		Path  [][]byte `cbor:"path"`
	}
)

// sameClaims fails if the general decoder reads other claims than DecodeClaims did.
func sameClaims(t testing.TB, data []byte, c *attest.Claims) {
	t.Helper()
	var w claimsWire
	if err := dcbor.Decode(data, &w); err != nil {
		t.Fatalf("claims are read that are not deterministic CBOR: %v", err)
	}
	if w.IssuedAt != c.IssuedAt || w.Role != uint8(c.Role) || w.Phase != uint8(c.Phase) || w.Seq != c.Seq || w.Service != c.Service || w.Instance != c.Instance ||
		!bytes.Equal(w.Nonce[0], c.Nonce[:]) || !bytes.Equal(w.Nonce[1], c.Binder[:]) || !bytes.Equal(w.Module, c.Module[:]) ||
		!bytes.Equal(w.Config, c.Config[:]) || !bytes.Equal(w.Runtime, c.Runtime[:]) || !bytes.Equal(w.Request, c.Request[:]) {
		t.Errorf("read as %+v, and the general decoder says %+v", c, w)
	}
	for _, d := range []struct {
		wire []byte
		read *attest.Digest
	}{{w.OwnKey, c.OwnKey}, {w.PeerKey, c.PeerKey}, {w.Guest, c.Guest}} {
		if (d.wire == nil) != (d.read == nil) || d.read != nil && !bytes.Equal(d.wire, d.read[:]) {
			t.Errorf("an optional digest is %v, and the general decoder says %x", d.read, d.wire)
		}
	}
}

// sameEvidence is sameClaims for evidence.
func sameEvidence(t testing.TB, data []byte, e *attest.Evidence) {
	t.Helper()
	var w evidenceWire
	if err := dcbor.Decode(data, &w); err != nil {
		t.Fatalf("evidence is read that is not deterministic CBOR: %v", err)
	}
	var b batchWire
	if err := dcbor.Decode(w.Batch.Value, &b); err != nil {
		t.Fatalf("a batch proof is read that is not deterministic CBOR: %v", err)
	}
	if !bytes.Equal(w.Claims.Value, e.Claims) || !bytes.Equal(w.Quote.Value, e.Quote.Data) || w.Quote.Type != e.Quote.Platform.MediaType() ||
		(w.Endorsements != nil) != (e.Quote.Endorsements != nil) || w.Endorsements != nil && !bytes.Equal(w.Endorsements.Value, e.Quote.Endorsements) {
		t.Errorf("read as %+v, and the general decoder says %+v", e, w)
	}
	if b.N != e.Proof.N || b.I != e.Proof.I || !bytes.Equal(b.Blind, e.Blind[:]) || len(b.Path) != len(e.Proof.Path) {
		t.Fatalf("batch proof is read as %+v, and the general decoder says %+v", e.Proof, b)
	}
	for i := range b.Path {
		if !bytes.Equal(b.Path[i], e.Proof.Path[i][:]) {
			t.Errorf("hash %d of the batch proof is %x, and the general decoder says %x", i, e.Proof.Path[i], b.Path[i])
		}
	}
}

// What the general encoder makes of the same claims is what Encode does, whatever is missing and however long numbers are.
func TestClaimsAreEncodedAsByTheGeneralEncoder(t *testing.T) {
	for _, seq := range []uint64{0, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, 1<<64 - 1} {
		c := exampleClaims()
		c.Seq, c.IssuedAt = seq, -int64(seq>>1)
		if seq%2 == 0 {
			c.OwnKey, c.Guest, c.Service = nil, &attest.Digest{7}, ""
		}
		data := Must(c.Encode())(t)
		var w claimsWire
		if err := dcbor.Decode(data, &w); err != nil {
			t.Fatal(err)
		}
		if again := Must(dcbor.Encode(w))(t); !bytes.Equal(again, data) {
			t.Errorf("sequence %d: %x, and by the general encoder %x", seq, data, again)
		}
		sameClaims(t, data, Must(attest.DecodeClaims(data))(t))
	}
}

// Nothing is read as claims or evidence after a byte was changed, cut off or put behind, unless the general decoder reads the same.
func TestChangedEvidenceIsReadAsByTheGeneralDecoder(t *testing.T) {
	claims := Must(exampleClaims().Encode())(t)
	e := attest.Evidence{Claims: claims, Quote: attest.Quote{Platform: attest.SGX, Data: []byte("quote"), Endorsements: []byte{1}}, Proof: attest.Proof{N: 4, I: 1, Path: someLeaves(2)}}
	evidence := Must(e.Encode())(t)
	for i := range evidence {
		for _, change := range []byte{1, 2, 8, 32, 64, 128, 255} {
			bad := bytes.Clone(evidence)
			bad[i] ^= change
			if e, err := attest.DecodeEvidence(bad); err == nil {
				sameEvidence(t, bad, e)
				if again := Must(e.Encode())(t); !bytes.Equal(again, bad) {
					t.Errorf("evidence with byte %d changed by %#x is accepted, and has another encoding", i, change)
				}
			}
			if bad = bytes.Clone(claims); i < len(bad) {
				bad[i] ^= change
				if c, err := attest.DecodeClaims(bad); err == nil {
					sameClaims(t, bad, c)
				}
			}
		}
		if _, err := attest.DecodeEvidence(evidence[:i]); err == nil {
			t.Errorf("evidence of %d of %d bytes is accepted", i, len(evidence))
		}
	}
	if _, err := attest.DecodeEvidence(append(bytes.Clone(evidence), 0)); err == nil {
		t.Error("a byte behind the evidence is accepted")
	}
}
