package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"strconv"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// Bounds of evidence. A quote has less than 400 bytes, a public area less than 600, and 48 PCRs fill less than 4,000.
const (
	maxEvidenceSize = 40 << 10
	maxEventLogSize = 32 << 10
	maxPart         = 2048
)

const evidenceVersion = 1

// evidence is what the machine sends, in deterministic CBOR.
type evidence struct {
	Version   uint64   `cbor:"v"`
	Attested  []byte   `cbor:"attest"` // TPMS_ATTEST
	Signature []byte   `cbor:"sig"`    // TPMT_SIGNATURE
	Public    []byte   `cbor:"ak"`     // TPMT_PUBLIC
	PCRs      [][]byte `cbor:"pcrs"`   // in the order of the quote's selection
	Log       []byte   `cbor:"log,omitempty"`
	Module    []byte   `cbor:"module,omitempty"` // what was put into ModulePCR after the events of the log
}

// parsed is evidence that has been read, and checked but for whose it is.
type parsed struct {
	evidence
	attested *attested
	public   *public
	pcrs     map[register][]byte
}

type register struct {
	hash crypto.Hash
	pcr  int
}

// name is how measurements and the policy call the register.
func (r register) name() string {
	if r.hash == crypto.SHA384 {
		return "pcr" + strconv.Itoa(r.pcr) + "_sha384"
	}
	return "pcr" + strconv.Itoa(r.pcr)
}

// parse reads evidence. The signature is not verified, nor is the digest of the PCRs.
func parse(data []byte) (*parsed, error) {
	if len(data) > maxEvidenceSize {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", len(data), maxEvidenceSize)
	}
	var p parsed
	if err := dcbor.Decode(data, &p.evidence); err != nil {
		return nil, err
	}
	if p.Version != evidenceVersion {
		return nil, fmt.Errorf("it is of version %d, not %d", p.Version, evidenceVersion)
	}
	if max(len(p.Attested), len(p.Signature), len(p.Public), len(p.Module)) > maxPart || len(p.Log) > maxEventLogSize {
		return nil, fmt.Errorf("a part of it is too long")
	}
	var err error
	if p.attested, err = parseAttested(p.Attested); err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	if p.public, err = parsePublic(p.Public); err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	return &p, p.assign()
}

// assign gives each value its register: there must be exactly as many as the quote is over.
func (p *parsed) assign() error {
	p.pcrs = map[register][]byte{}
	values := p.PCRs
	for _, b := range p.attested.banks {
		for _, i := range b.PCRs {
			if len(values) == 0 || len(values[0]) != b.Hash.Size() {
				return fmt.Errorf("PCR %d of the quote is missing, or is not of %d bytes", i, b.Hash.Size())
			}
			p.pcrs[register{b.Hash, i}] = values[0]
			values = values[1:]
		}
	}
	if len(values) > 0 {
		return fmt.Errorf("it has %d PCRs that the quote is not over", len(values))
	}
	return nil
}

// check verifies that the key has signed the quote, that the quote is over the values, and that the event log leads to them.
func (p *parsed) check() error {
	if err := p.public.checkSignature(p.Attested, p.Signature); err != nil {
		return attest.Errorf(attest.ErrSignature, "TPM evidence: signature of the quote: %w", err)
	}
	if !bytes.Equal(pcrDigest(p.public.hash, p.PCRs), p.attested.pcrDigest) {
		return attest.Errorf(attest.ErrSignature, "TPM evidence: the values of the PCRs are not those that were signed")
	}
	if len(p.Log) == 0 {
		return p.checkNoLog()
	}
	log, err := ParseEventLog(p.Log)
	if err != nil {
		return attest.Errorf(attest.ErrFormat, "TPM evidence: event log: %w", err)
	}
	return p.replay(log)
}

func (p *parsed) checkNoLog() error {
	if len(p.Module) > 0 {
		return attest.Errorf(attest.ErrFormat, "TPM evidence: it tells of a module without an event log")
	}
	return nil
}

// replay wants each PCR that the log covers to have the value that the log leads to.
func (p *parsed) replay(log *EventLog) error {
	for _, b := range p.attested.banks {
		replayed, err := log.Replay(b.Hash)
		if err != nil {
			return attest.Errorf(attest.ErrFormat, "TPM evidence: event log: %w", err)
		}
		if len(p.Module) > 0 {
			before, ok := replayed[ModulePCR]
			if !ok {
				before = make([]byte, b.Hash.Size())
			}
			replayed[ModulePCR] = extended(b.Hash, before, moduleEvent(b.Hash, p.Module))
		}
		for _, i := range b.PCRs {
			if value, ok := replayed[i]; ok && !bytes.Equal(value, p.pcrs[register{b.Hash, i}]) {
				return attest.Errorf(attest.ErrSignature, "TPM evidence: event log: it does not lead to the value of PCR %d that was signed", i)
			}
		}
	}
	return nil
}

// pcrDigest is what a quote has of PCRs: the digest of all values, by the hash function of the signature (part 3, 18.4).
func pcrDigest(hash crypto.Hash, values [][]byte) []byte {
	h := hash.New()
	for _, v := range values {
		h.Write(v)
	}
	return h.Sum(nil)
}

// KeyDigest returns how a policy calls an AK, and HardwareID an EK: the SHA-256 digest of its public area (TPMT_PUBLIC).
func KeyDigest(public []byte) [sha256.Size]byte { return sha256.Sum256(public) }
