package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// securityTable lists attacks with the tests that show what stops them.
const securityTable = "docs/security.md"

// attackRow matches a row of it: | **attack** ... | defence | `test`, `test` ... |
var attackRow = regexp.MustCompile(`^\| \*\*(.+?)\*\*.* \| .+ \| (.+) \|$`)

// aTest matches what names a test: `folder TestName`, `folder TestName/subtest` or a script.
var aTest = regexp.MustCompile("`([\\w./-]+ Test\\w+(?:/[^`]+)?|[\\w./-]+\\.(?:txtar|txt))`")

// TestAttacksAreShown checks that each attack names a test, and that all tests on the page exist.
func TestAttacksAreShown(t *testing.T) {
	top := root(t)
	content, err := os.ReadFile(filepath.Join(top, securityTable))
	if err != nil {
		t.Fatal(err)
	}
	attacks := 0
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| **") {
			continue
		}
		attacks++
		row := attackRow.FindStringSubmatch(line)
		if row == nil {
			t.Errorf("%s: not a row: %s", securityTable, line)
			continue
		}
		if !aTest.MatchString(row[2]) {
			t.Errorf("%s names no test", row[1])
		}
		if n := strings.Count(row[2], "`") / 2; n != len(aTest.FindAllString(row[2], -1)) {
			t.Errorf("%s names something that is no test: %s", row[1], row[2])
		}
	}
	for _, m := range aTest.FindAllStringSubmatch(string(content), -1) {
		if err := exists(top, m[1]); err != "" {
			t.Errorf("%s: %s: %s", securityTable, m[1], err)
		}
	}
	if attacks < 15 {
		t.Errorf("only %d attacks were found", attacks)
	}
}

// exists says why a test does not, or "".
func exists(top, test string) string {
	folder, name, isGo := strings.Cut(test, " ")
	if !isGo {
		if _, err := os.Stat(filepath.Join(top, test)); err != nil {
			return "there is no such file"
		}
		return ""
	}
	name, sub, hasSub := strings.Cut(name, "/")
	source, err := testSource(filepath.Join(top, folder), name)
	switch {
	case err != nil:
		return err.Error()
	case hasSub && !strings.Contains(source, `"`+sub+`"`):
		return "the test has no such part"
	}
	return ""
}

func TestExists(t *testing.T) {
	top := root(t)
	for test, want := range map[string]bool{
		"internal/archtest TestExists":               true,
		"internal/archtest TestExists/part":          true, // "part"
		"internal/archtest TestExists/none" + "such": false,
		"internal/archtest TestNowhere":              false,
		"nowhere TestExists":                         false,
		"nowhere.txtar":                              false,
	} {
		if got := exists(top, test); (got == "") != want {
			t.Errorf("%s: %q", test, got)
		}
	}
}
