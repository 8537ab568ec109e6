package archtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unbound are functions that judge evidence without a connection. Only the tools that look at files may call them: whoever decides over a connection
// with them accepts replayed evidence.
var unbound = []string{"ExamineUnbound(", "ExamineEvidenceUnbound(", "JudgePlatform("}

func TestOnlyToolsJudgeUnboundEvidence(t *testing.T) {
	for _, p := range packages(t) {
		room := roomOf(p.folder)
		if room == "cmd/vouchmq" || room == "attest" || room == "attest/policy" {
			continue
		}
		files, err := filepath.Glob(filepath.Join("..", "..", p.folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range unbound {
				if strings.Contains(string(data), "."+name) && !strings.HasSuffix(file, "_test.go") {
					t.Errorf("%s calls %s), which looks at no connection", file, name)
				}
			}
		}
	}
}
