package dcap

import (
	"strings"
	"testing"
)

// FuzzCollateral reads TCB info and QE identities as if they were signed.
func FuzzCollateral(f *testing.F) {
	head := `{"id":"TDX","version":3,"issueDate":"2026-01-01T00:00:00Z","nextUpdate":"2026-02-01T00:00:00Z","tcbEvaluationDataNumber":17,`
	f.Add([]byte(head + `"fmspc":"B0C06F000000","pceId":"0000","tcbType":0,"tcbLevels":[]}`))
	f.Add([]byte(strings.Replace(head, `"TDX","version":3`, `"QE","version":2`, 1) + `"miscselect":"00000000","isvprodid":1,"tcbLevels":[{"tcb":{"isvsvn":1},"tcbStatus":"UpToDate"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if info, err := readTCBInfo(body); err == nil && len(info.Levels) == 0 {
			t.Error("TCB info without levels")
		}
		if identity, err := readQEIdentity(body); err == nil && len(identity.Levels) == 0 {
			t.Error("QE identity without levels")
		}
	})
}
