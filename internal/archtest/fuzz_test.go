package archtest

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// fuzzTarget matches a fuzz target, up to its end.
	fuzzTarget = regexp.MustCompile(`(?ms)^func (Fuzz\w+)\(.*?^}$`)
	// namedTargets matches how the page names them: `folder` FuzzA, FuzzB.
	namedTargets = regexp.MustCompile("`([\\w/]+)` (Fuzz\\w+(?:, Fuzz\\w+)*)")
)

// ofEvidence are the folders in which bytes of strangers are read before anybody knows who they are: tools/run-fuzz has the same.
func ofEvidence(folder string) bool {
	return folder == "attest" || strings.HasPrefix(folder, "attest/") || folder == "atls" || strings.HasPrefix(folder, "atls/") ||
		folder == "client"
}

// TestParsersOfEvidenceAreFuzzed checks that the table in docs/security.md has each fuzz target of these folders and no other, and that each bounds
// what the parser allocates.
func TestParsersOfEvidenceAreFuzzed(t *testing.T) {
	top := root(t)
	page, err := os.ReadFile(filepath.Join(top, securityTable))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range namedTargets.FindAllStringSubmatch(string(page), -1) {
		for _, name := range strings.Split(m[2], ", ") {
			listed[m[1]+" "+name] = true
		}
	}
	for _, file := range files(t, top) {
		folder := filepath.ToSlash(filepath.Dir(file))
		if !strings.HasSuffix(file, "_test.go") || !ofEvidence(folder) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(top, file))
		if err != nil {
			continue // gone since it was listed
		}
		for _, m := range fuzzTarget.FindAllStringSubmatch(string(content), -1) {
			target := folder + " " + m[1]
			if !listed[target] {
				t.Errorf("%s does not list %s", securityTable, target)
			}
			delete(listed, target)
			if !strings.Contains(m[0], "fuzzbound.") {
				t.Errorf("%s does not bound what is allocated (internal/fuzzbound)", target)
			}
		}
	}
	for _, target := range slices.Sorted(maps.Keys(listed)) {
		t.Errorf("%s lists %s, which does not exist", securityTable, target)
	}
}
