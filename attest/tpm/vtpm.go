package tpm

import (
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vouchmq/vouchmq/attest"
)

// SignedQuote is a quote of PCRs whose key something else than the TPM vouches for, as with the vTPM of a confidential VM.
type SignedQuote struct {
	Attested  []byte   // TPMS_ATTEST
	Signature []byte   // TPMT_SIGNATURE
	PCRs      [][]byte // in the order of the quote's selection
}

// Verify checks that the key has signed the quote, by RSASSA with SHA-256, and that the quote is over the values. It returns the qualifying data,
// and the values by the names that the policy uses: pcr0, pcr0_sha384.
func (q *SignedQuote) Verify(key *rsa.PublicKey) (extra []byte, pcrs map[string][]byte, err error) {
	return q.verify(&public{key: key, scheme: algRSASSA, hash: crypto.SHA256})
}

func (q *SignedQuote) verify(key *public) (extra []byte, pcrs map[string][]byte, err error) {
	if max(len(q.Attested), len(q.Signature)) > maxPart {
		return nil, nil, attest.Errorf(attest.ErrFormat, "TPM evidence: a part of it is too long")
	}
	p := parsed{
		evidence: evidence{Attested: q.Attested, Signature: q.Signature, PCRs: q.PCRs},
		public:   key,
	}
	if p.attested, err = parseAttested(q.Attested); err != nil {
		return nil, nil, attest.Errorf(attest.ErrFormat, "TPM evidence: quote: %w", err)
	}
	if err := p.assign(); err != nil {
		return nil, nil, attest.Errorf(attest.ErrFormat, "TPM evidence: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, nil, err
	}
	pcrs = map[string][]byte{}
	for r, value := range p.pcrs {
		pcrs[r.name()] = value
	}
	return p.attested.extra, pcrs, nil
}

// VTPM is the TPM of a virtual machine, in which whoever runs the machine has left an AK and what vouches for it. It may be used by many
// goroutines.
type VTPM struct {
	attester *Attester
}

// NewVTPM returns the TPM behind a device, or the socket of one in software; "" is [Device]. Its quotes are over [DefaultPCRs], SHA-256.
func NewVTPM(device string) *VTPM {
	if device == "" {
		device = Device
	}
	return &VTPM{&Attester{options: Options{Hash: crypto.SHA256, PCRs: DefaultPCRs()}, open: deviceAt(device)}}
}

// Quote has the key at a persistent handle sign the PCRs and extra, of at most 32 bytes.
func (v *VTPM) Quote(ctx context.Context, handle uint32, extra []byte) (*SignedQuote, error) {
	return turn(ctx, v.attester, func(tpm transport.TPM) (*SignedQuote, error) {
		r, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(handle)}.Execute(tpm)
		if err != nil {
			return nil, fmt.Errorf("there is no key at the handle %#x: %w", handle, err)
		}
		return v.attester.quoteBy(tpm, tpm2.NamedHandle{Handle: tpm2.TPMHandle(handle), Name: r.Name}, extra)
	})
}

// Measure is that of [Attester].
func (v *VTPM) Measure(ctx context.Context, module attest.Digest) error {
	return v.attester.Measure(ctx, module)
}

// ReadNV reads an NV index that the owner of the machine may read, nil if there is none.
func (v *VTPM) ReadNV(ctx context.Context, index uint32) ([]byte, error) {
	return turn(ctx, v.attester, func(tpm transport.TPM) ([]byte, error) {
		return readNVBy(tpm, tpm2.TPMRHOwner, tpm2.TPMHandle(index))
	})
}
