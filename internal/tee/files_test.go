package tee

import (
	"io/fs"
	"testing"
)

// TestMissingFileIsNoMissingTEE: auto goes on to the next TEE where there is none, not where a file is missing that one attests with.
func TestMissingFileIsNoMissingTEE(t *testing.T) {
	snp := kind{absent: fs.ErrNotExist}
	if !snp.isAbsent(fs.ErrNotExist) || (&kind{}).isAbsent(fs.ErrNotExist) {
		t.Error("a TEE that is not there is not known as such, or one that cannot be absent is")
	}
	missing := t.TempDir() + "/none"
	wrong := (&Options{TPM: TPM{Certificate: missing}, SEVSNPCertificate: missing, CCAPlatformKey: missing}).CheckFiles()
	if len(wrong) != 3 {
		t.Errorf("%d of 3 files that are missing are found: %v", len(wrong), wrong)
	}
	for _, err := range wrong {
		if snp.isAbsent(err) {
			t.Errorf("%s: a missing file is taken for a missing TEE: %v", err.Key, err)
		}
	}
}
