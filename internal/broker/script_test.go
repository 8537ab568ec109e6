package broker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/brokertest"
)

// TestScripts runs the conversations in testdata, each in several ways that must make no difference.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "expect ") {
			t.Errorf("%s expects nothing", file)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			for _, way := range []string{"short way", "long way", "small steps"} {
				core, limits := New(), brokertest.ScriptLimits
				core.longWay = way == "long way"
				if way == "small steps" {
					limits.StepWork = 1
				}
				if err := brokertest.RunScript(core, file, string(text), limits); err != nil {
					t.Fatalf("%s: %v", way, err)
				}
			}
		})
	}
}
