package tpm

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Describe tells what evidence says, field by field. Nothing is verified.
func Describe(q attest.Quote) ([]attest.Field, error) {
	p, err := parse(q.Data)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "TPM evidence: %w", err)
	}
	fields := append(p.attested.describe(p.PCRs), (&Key{p.Public, p.public.key, p.public.scheme, p.public.hash}).Describe()...)
	if len(p.Log) > 0 {
		fields = append(fields, attest.Field{Name: "event log", Value: fmt.Sprintf("%d bytes", len(p.Log))})
	}
	if len(p.Module) > 0 {
		fields = append(fields, attest.Field{Name: "measured after the event log", Value: hex.EncodeToString(p.Module)})
	}
	return append(fields, describeCertificates(q.Endorsements)...), nil
}

// DescribeQuote tells what a quote says whose key is not, or need not be, known here: signature and values may be missing.
func DescribeQuote(q *SignedQuote) ([]attest.Field, error) {
	a, err := parseAttested(withoutSize(q.Attested))
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "TPM quote: %w", err)
	}
	return a.describe(q.PCRs), nil
}

// Describe tells what is known of a key.
func (k *Key) Describe() []attest.Field {
	fields := []attest.Field{{Name: "attestation key", Value: k.describe()}}
	if k.Public == nil {
		return append(fields, attest.Field{Name: "attributes of the key", Value: "NOT KNOWN: it may sign anything, not only what a TPM has made"})
	}
	digest := KeyDigest(k.Public)
	return append(fields, attest.Field{Name: "ak", Value: hex.EncodeToString(digest[:]) + " (what a policy calls it)"},
		attest.Field{Name: "attributes of the key", Value: "fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign: it signs what the TPM has made, and nothing else"})
}

func (a *attested) describe(values [][]byte) []attest.Field {
	fields := []attest.Field{
		{Name: "qualifying data", Value: hex.EncodeToString(a.extra)},
		{Name: "signed by (qualified name)", Value: hex.EncodeToString(a.signer)},
		{Name: "clock", Value: fmt.Sprintf("%v of running, %s", time.Duration(a.clock)*time.Millisecond, map[bool]string{true: "safe", false: "may have been set back"}[a.safe])},
		{Name: "resets, restarts", Value: fmt.Sprintf("%d, %d", a.resets, a.restarts)},
		{Name: "firmware of the TPM", Value: fmt.Sprintf("%016x", a.firmware)},
	}
	for _, b := range a.banks {
		fields = append(fields, attest.Field{Name: "PCRs of the bank " + b.Hash.String(), Value: numbers(b.PCRs)})
	}
	fields = append(fields, attest.Field{Name: "digest of the PCRs", Value: hex.EncodeToString(a.pcrDigest)})
	p := parsed{attested: a}
	if p.PCRs = values; p.assign() != nil {
		return fields
	}
	for _, b := range a.banks {
		for _, i := range b.PCRs {
			r := register{b.Hash, i}
			fields = append(fields, attest.Field{Name: strings.Replace(r.name(), "pcr", "PCR", 1), Value: hex.EncodeToString(p.pcrs[r])})
		}
	}
	return fields
}

func numbers(all []int) string {
	var texts []string
	for _, n := range all {
		texts = append(texts, strconv.Itoa(n))
	}
	return strings.Join(texts, " ")
}

func describeCertificates(der []byte) []attest.Field {
	c, err := parseCertificates(der)
	if err != nil {
		return nil
	}
	ca := attest.Sum(c.ca.RawSubjectPublicKeyInfo)
	return []attest.Field{
		{Name: "certificate of the key", Value: fmt.Sprintf("issued by %q, valid %s to %s", c.ca.Subject.CommonName, c.ak.NotBefore.UTC().Format(time.RFC3339), c.ak.NotAfter.UTC().Format(time.RFC3339))},
		{Name: "ak_ca", Value: hex.EncodeToString(ca[:]) + " (what a policy calls that CA)"},
	}
}
