package attest_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

func FuzzClaims(f *testing.F) {
	f.Add(Must(exampleClaims().Encode())(f))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		c, err := attest.DecodeClaims(data)
		if err != nil {
			return
		}
		if again, err := c.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Error("claims have a second encoding")
		}
		sameClaims(t, data, c)
	}))
}

func FuzzEvidence(f *testing.F) {
	key := Must(sim.NewKey())(f)
	f.Add(Must(attest.Make(context.Background(), sim.NewAttester(key, attest.Digest{}), attest.PurposeConnection, exampleClaims(), bytes.NewReader(make([]byte, 16))))(f))
	e := attest.Evidence{Quote: attest.Quote{Platform: attest.SGX, Endorsements: []byte{}}, Proof: attest.Proof{N: 2, I: 1, Path: someLeaves(1)}}
	f.Add(Must(e.Encode())(f))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		e, err := attest.DecodeEvidence(data)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Error("evidence has a second encoding")
		}
		sameEvidence(t, data, e)
		if root, err := e.Proof.Root(attest.Hash{}); err == nil && e.Proof.N > attest.MaxBatch {
			t.Errorf("batch of %d has root %x", e.Proof.N, root)
		}
	}))
}

// FuzzProof: of all proofs for a leaf of a tree, only the honest one leads to what was signed.
func FuzzProof(f *testing.F) {
	f.Add(uint16(5), uint16(2), uint64(5), uint64(2), []byte(nil))
	f.Add(uint16(1), uint16(0), uint64(1), uint64(0), make([]byte, attest.HashSize))
	f.Add(uint16(1024), uint16(1023), uint64(1024), uint64(1022), make([]byte, 11*attest.HashSize))
	f.Fuzz(func(t *testing.T, size, index uint16, n, i uint64, path []byte) {
		leaves := someLeaves(1 + int(size)%attest.MaxBatch)
		index %= uint16(len(leaves))
		root, proof := attest.TreeOf(leaves)
		honest := forgery{proof(int(index)), leaves[index]}
		p := attest.Proof{N: n, I: i}
		if len(path) == 0 { // the fuzzer does not guess hashes
			p.Path = honest.proof.Path
		}
		for ; len(path) >= attest.HashSize; path = path[attest.HashSize:] {
			p.Path = append(p.Path, attest.Hash(path))
		}
		same := n == honest.proof.N && i == honest.proof.I && slices.Equal(p.Path, honest.proof.Path)
		signed := attest.ReportDataFor(attest.PurposeConnection, honest.proof.N, root)
		fuzzbound.Check(t, len(path), func() {
			if (forgery{p, honest.leaf}).accepted(signed) != same {
				t.Errorf("leaf %d of %d: accepted is %v of %+v", index, len(leaves), !same, p)
			}
		})
	})
}
