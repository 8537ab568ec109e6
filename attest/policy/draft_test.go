package policy_test

import (
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
)

// What a draft offers as a comment can be taken as it is, and accepts the machine that it is of, and no other.
func TestDraftForOneMachine(t *testing.T) {
	for _, p := range []attest.Platform{attest.SGX, attest.TPM, attest.Nitro} {
		f := attest.Facts{
			PlatformClaims: attest.PlatformClaims{
				Platform: p, TCB: attest.TCBNotApplicable, HardwareID: string(p) + ":" + strings.Repeat("0a", 32),
				Measurements: map[string][]byte{}, Versions: map[string]uint64{"isv_prod_id": 1, "isv_svn": 2},
			},
			Identity: attest.Identity{Module: attest.Sum([]byte("module"))},
		}
		switch p {
		case attest.SGX:
			f.TCB, f.HardwareID = attest.TCBUpToDate, "sgx:"+strings.Repeat("0a", 16)
			f.Measurements["mrenclave"] = []byte(strings.Repeat("a", 32))
		case attest.TPM:
			f.Measurements["ak"], f.Measurements["ak_ca"] = []byte(strings.Repeat("a", 32)), []byte(strings.Repeat("b", 48))
			f.Measurements["pcr4"] = []byte(strings.Repeat("c", 32))
		case attest.Nitro:
			f.HardwareID = "nitro:0123456789abcdef0"
			f.Measurements["pcr0"] = []byte(strings.Repeat("a", 48))
		}
		draft, err := policy.Draft("machine", &f)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(draft), "# instances:", "instances:", 1)
		if text == string(draft) {
			t.Errorf("%s: no hardware is offered:\n%s", p, draft)
		}
		one, err := policy.Parse("draft", []byte(text))
		if err != nil {
			t.Errorf("%s: %v\n%s", p, err, text)
			continue
		}
		if v := one.Judge(&f); !v.Accepted {
			t.Errorf("%s: %v", p, v.Err)
		}
		f.HardwareID += "0"
		if v := one.Judge(&f); v.Accepted {
			t.Errorf("%s: another machine is accepted", p)
		}
	}
}
