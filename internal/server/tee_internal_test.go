package server

import (
	"io/fs"
	"testing"

	"github.com/vouchmq/vouchmq/attest/sevsnp"
)

// TestMissingFileIsNoMissingTEE: auto goes on to the next TEE where there is none, not where a file is missing that one attests with.
func TestMissingFileIsNoMissingTEE(t *testing.T) {
	snp := tee{absent: fs.ErrNotExist}
	if !snp.isAbsent(fs.ErrNotExist) || (&tee{}).isAbsent(fs.ErrNotExist) {
		t.Error("a TEE that is not there is not known as such, or one that cannot be absent is")
	}
	if err := checkTEEFile(keySEVSNPCertificate, t.TempDir()+"/none.der", sevsnp.CheckCertificate); err == nil || snp.isAbsent(err) {
		t.Error("a missing certificate is taken for a missing TEE:", err)
	}
}
