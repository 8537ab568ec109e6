package dcap

import (
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

// FuzzCollateral reads TCB info and QE identities as if they were signed.
func FuzzCollateral(f *testing.F) {
	head := `{"id":"TDX","version":3,"issueDate":"2026-01-01T00:00:00Z","nextUpdate":"2026-02-01T00:00:00Z","tcbEvaluationDataNumber":17,`
	f.Add([]byte(head + `"fmspc":"B0C06F000000","pceId":"0000","tcbType":0,"tcbLevels":[]}`))
	f.Add([]byte(strings.Replace(head, `"TDX","version":3`, `"QE","version":2`, 1) + `"miscselect":"00000000","isvprodid":1,"tcbLevels":[{"tcb":{"isvsvn":1},"tcbStatus":"UpToDate"}]}`))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, body []byte) {
		if info, err := readTCBInfo(body); err == nil && len(info.Levels) == 0 {
			t.Error("TCB info without levels")
		}
		if identity, err := readQEIdentity(body); err == nil && len(identity.Levels) == 0 {
			t.Error("QE identity without levels")
		}
	}))
}

// FuzzSGXExtension reads the extension of a PCK certificate as if Intel had signed it.
func FuzzSGXExtension(f *testing.F) {
	type attribute struct {
		ID    asn1.ObjectIdentifier
		Value any
	}
	id := func(last ...int) asn1.ObjectIdentifier { return append(oidSGX[:len(oidSGX):len(oidSGX)], last...) }
	var svns []attribute
	for i := range tcbPCESVN {
		svns = append(svns, attribute{id(attrTCB, i+1), i})
	}
	der, err := asn1.Marshal([]attribute{
		{id(attrPPID), make([]byte, 16)}, {id(attrTCB), svns}, {id(attrPCEID), make([]byte, 2)}, {id(attrFMSPC), make([]byte, 6)}, {id(attrInstance), make([]byte, 16)},
	})
	if err != nil || new(PCK).readAttributes(der) != nil {
		f.Fatal(err, new(PCK).readAttributes(der))
	}
	f.Add(der)
	f.Fuzz(fuzzbound.Of(func(_ *testing.T, der []byte) {
		_ = new(PCK).readAttributes(der)
	}))
}

// FuzzSplit reads what Intel's service answers.
func FuzzSplit(f *testing.F) {
	f.Add([]byte(`{"tcbInfo":{"id":"TDX"},"signature":"00"}`))
	f.Add([]byte(`{"enclaveIdentity":{"id":"QE"},"signature":"00"}`))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		for _, split := range []func(data, chain []byte) (Signed, error){SplitTCBInfo, SplitQEIdentity} {
			if s, err := split(data, nil); err == nil && len(s.Body)+len(s.Signature) > len(data) {
				t.Errorf("%d and %d bytes of %d", len(s.Body), len(s.Signature), len(data))
			}
		}
	}))
}
