package attest_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
)

func FuzzClaims(f *testing.F) {
	f.Add(must(exampleClaims().Encode())(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := attest.DecodeClaims(data)
		if err != nil {
			return
		}
		if again, err := c.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Error("claims have a second encoding")
		}
	})
}

func FuzzEvidence(f *testing.F) {
	key := must(sim.NewKey())(f)
	f.Add(must(attest.Make(context.Background(), sim.NewAttester(key, attest.Digest{}), attest.PurposeConnection, exampleClaims(), bytes.NewReader(make([]byte, 16))))(f))
	e := attest.Evidence{Quote: attest.Quote{Platform: attest.SGX, Endorsements: []byte{}}, Proof: attest.Proof{N: 2, I: 1, Path: someLeaves(1)}}
	f.Add(must(e.Encode())(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := attest.DecodeEvidence(data)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Error("evidence has a second encoding")
		}
		if root, err := e.Proof.Root(attest.Hash{}); err == nil && e.Proof.N > attest.MaxBatch {
			t.Errorf("batch of %d has root %x", e.Proof.N, root)
		}
	})
}
