package azure

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
	"github.com/vouchmq/vouchmq/attest/tpm"
)

// Describe tells what evidence says, field by field, but for its TD quote. Nothing is verified.
func Describe(q attest.Quote) ([]attest.Field, error) {
	e, _, err := parse(q.Data)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "Azure evidence: %w", err)
	}
	fields, err := DescribeHCL(e.HCL, q.Endorsements)
	if err != nil {
		return nil, err
	}
	quote, err := tpm.DescribeQuote(e.quote())
	if err != nil {
		return nil, err
	}
	return append(fields, quote...), nil
}

// DescribeHCL tells what an HCL report says; endorsements are the VCEK's certificate, or nil.
func DescribeHCL(hcl, endorsements []byte) ([]attest.Field, error) {
	r, err := parseReport(hcl)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "HCL report: %w", err)
	}
	fields, err := r.describeHardware(endorsements)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(r.text)
	fields = append(fields, attest.Field{Name: "runtime data", Value: fmt.Sprintf("%d bytes of JSON, SHA-256 %x", len(r.text), digest)})
	return append(fields, describeRuntime(r.text)...), nil
}

func (r *report) describeHardware(endorsements []byte) ([]attest.Field, error) {
	if r.kind == tdx {
		return []attest.Field{{Name: "hardware report", Value: "TD report of TDX, which only its own machine can verify: what counts is the TD quote made of it"}}, nil
	}
	fields, err := sevsnp.Describe(attest.Quote{Data: r.hardware, Endorsements: endorsements})
	if err != nil {
		return nil, err
	}
	return append([]attest.Field{{Name: "hardware report", Value: "report of SEV-SNP"}}, fields...), nil
}

// describeRuntime tells what the paravisor says of the VM. Names and texts are quoted: they come from whoever made the file.
func describeRuntime(text []byte) (fields []attest.Field) {
	var data map[string]json.RawMessage
	if json.Unmarshal(text, &data) != nil {
		return nil
	}
	var keys []jwk
	_ = json.Unmarshal(data["keys"], &keys) // parseReport has read them
	for _, k := range keys {
		size := "unknown"
		if key, err := k.rsa(); err == nil {
			size = strconv.Itoa(key.N.BitLen()) + " bits"
		}
		fields = append(fields, attest.Field{Name: "key " + printable(k.ID), Value: printable(k.Type) + ", " + size})
	}
	var vm map[string]json.RawMessage
	_ = json.Unmarshal(data["vm-configuration"], &vm) // whatever it is, it is shown below
	for _, name := range slices.Sorted(maps.Keys(vm)) {
		fields = append(fields, attest.Field{Name: printable(name), Value: printable(textOf(vm[name]))})
	}
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if name == "keys" || name == "vm-configuration" && vm != nil {
			continue
		}
		value := textOf(data[name])
		if b, err := hex.DecodeString(value); err == nil && zero(b) {
			value = fmt.Sprintf("%d bytes of zeros", len(b))
		}
		fields = append(fields, attest.Field{Name: printable(name), Value: printable(value)})
	}
	return fields
}

// textOf returns a string of JSON as it is meant, and everything else as it is written.
func textOf(value json.RawMessage) (s string) {
	if json.Unmarshal(value, &s) != nil {
		return string(value)
	}
	return s
}

// printable keeps texts from driving a terminal.
func printable(s string) string {
	quoted := strconv.QuoteToGraphic(s)
	if quoted == `"`+s+`"` {
		return s
	}
	return quoted
}
