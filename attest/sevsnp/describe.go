package sevsnp

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Describe tells what a report and its certificate say, field by field. Nothing is verified.
func Describe(q attest.Quote) ([]attest.Field, error) {
	r, err := parseReport(q.Data)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "SEV-SNP report: %w", err)
	}
	fields := []attest.Field{
		{Name: "report version", Value: strconv.FormatUint(uint64(r.version), 10)},
		{Name: "measurement", Value: hex.EncodeToString(r.measurement)},
		{Name: "host data", Value: hex.EncodeToString(r.hostData)},
		{Name: "id key digest", Value: hex.EncodeToString(r.idKeyDigest)},
		{Name: "report data", Value: hex.EncodeToString(r.data)},
		{Name: "VMPL", Value: strconv.FormatUint(uint64(r.vmpl), 10)},
		{Name: "guest SVN", Value: strconv.FormatUint(uint64(r.guestSVN), 10)},
		{Name: "guest policy", Value: r.policyWords()},
		{Name: "chip id", Value: hex.EncodeToString(r.chipID)},
		{Name: "signed by", Value: r.signer.String()},
	}
	e, err := parseEndorsement(q.Endorsements)
	if err != nil {
		return append(fields, attest.Field{Name: "TCB current, committed, reported, launch", Value: fmt.Sprintf("%016x %016x %016x %016x", r.current, r.committed, r.reported, r.launch)}), nil
	}
	for _, tcb := range []struct {
		name  string
		value uint64
	}{{"TCB current", r.current}, {"TCB committed", r.committed}, {"TCB reported", r.reported}, {"TCB at launch", r.launch}} {
		fields = append(fields, attest.Field{Name: tcb.name, Value: e.line.words(tcb.value)})
	}
	return append(fields,
		attest.Field{Name: "processor line", Value: e.line.name},
		attest.Field{Name: "certificate of the key", Value: fmt.Sprintf("%v, issued by %q, valid %s to %s", e.signer, e.certificate.Issuer.CommonName,
			e.certificate.NotBefore.UTC().Format(time.RFC3339), e.certificate.NotAfter.UTC().Format(time.RFC3339))}), nil
}

func (r *report) policyWords() string {
	words := []string{"debug forbidden"}
	if r.policy&policyDebug != 0 {
		words[0] = "DEBUG ALLOWED"
	}
	if r.policy&policySMT != 0 {
		words = append(words, "SMT allowed")
	}
	if r.policy&policyMigration != 0 {
		words = append(words, "migration agent allowed")
	}
	return fmt.Sprintf("%#x: %s", r.policy, strings.Join(words, ", "))
}

func (l *line) words(tcb uint64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(l.parts)) {
		all = append(all, fmt.Sprintf("%s %d", name, l.part(tcb, name)))
	}
	return strings.Join(all, ", ")
}
