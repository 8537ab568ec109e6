package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pendingAllowed says whether rows of the table may still wait for a part of the broker. A broker that is
// complete has none.
const pendingAllowed = false

// conformanceTable is where each numbered statement of the standards stands with the tests that show it.
const conformanceTable = "docs/conformance.md"

// A statement is known by its number as code and tests write it: MQTT-3.8.3-1 is of MQTT 5.0, MQTT311-3.8.3-1 of
// MQTT 3.1.1.
type statement string

// row is a row of the table.
type row struct {
	id     statement
	binds  string
	tests  []string // "internal/broker/testdata/qos.txt" or "internal/mqtt TestRefusals"
	reason string   // why no test shows it, or what else is to be said
}

// pending tells of a row that waits for a part of the broker, and for which.
func (r *row) pending() (part string, ok bool) { return strings.CutPrefix(r.reason, "pending: ") }

func TestTableHasAllStatements(t *testing.T) {
	var got []statement
	for _, r := range conformanceRows(t) {
		got = append(got, r.id)
		if !slices.Contains([]string{"server", "client", "both", "sender", "receiver"}, r.binds) {
			t.Errorf("%s binds %q", r.id, r.binds)
		}
	}
	if want := knownStatements(t); !slices.Equal(got, want) {
		t.Errorf("%s has %d rows, the standards %d statements, in this order; the first difference is %s",
			conformanceTable, len(got), len(want), firstDifference(got, want))
	}
}

func firstDifference(got, want []statement) string {
	for i := range want {
		if i == len(got) || got[i] != want[i] {
			return string(want[i])
		}
	}
	return "after the last"
}

func TestStatementsAreShown(t *testing.T) {
	top := root(t)
	shown, reasons, server := 0, 0, 0
	pending := map[string][]string{}
	named := namedBy(t, top)
	for _, r := range conformanceRows(t) {
		if r.binds != "client" {
			server++
		}
		for _, test := range r.tests {
			if err := shows(top, test, r.id); err != nil {
				t.Errorf("%s: %s does not show it: %v", r.id, test, err)
			}
		}
		part, waits := r.pending()
		switch {
		case waits:
			pending[part] = append(pending[part], string(r.id))
			if by := named[r.id]; len(by) > 0 {
				t.Logf("%s is pending, and named by %v", r.id, by)
			}
		case len(r.tests) > 0:
			shown++
		case r.reason != "":
			reasons++
		default:
			t.Errorf("%s has neither a test nor a reason; it is named by %v", r.id, named[r.id])
		}
	}
	t.Logf("%d statements bind a server; of all, tests show %d, %d have a reason", server, shown, reasons)
	for _, part := range slices.Sorted(maps.Keys(pending)) {
		t.Logf("%d wait for %s: %s", len(pending[part]), part, strings.Join(pending[part], " "))
		if !pendingAllowed {
			t.Errorf("rows wait for %s", part)
		}
	}
}

// namedBy gives the files of tests that name each statement.
func namedBy(t *testing.T, top string) map[statement][]string {
	t.Helper()
	named := map[statement][]string{}
	for _, file := range files(t, top) {
		isTest := strings.Contains(file, "/testdata/") || strings.HasSuffix(file, "_test.go")
		content, err := os.ReadFile(filepath.Join(top, file))
		if !isTest || err != nil {
			continue
		}
		for _, id := range statementNumber.FindAllString(string(content), -1) {
			if list := named[statement(id)]; !slices.Contains(list, file) {
				named[statement(id)] = append(list, file)
			}
		}
	}
	return named
}

func TestStatementNumbersExist(t *testing.T) {
	top := root(t)
	known := map[statement]bool{}
	for _, id := range knownStatements(t) {
		known[id] = true
	}
	for _, file := range files(t, top) {
		if !slices.Contains([]string{".go", ".txt", ".txtar", ".md"}, filepath.Ext(file)) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(top, file))
		if err != nil {
			continue // gone since it was listed
		}
		for _, id := range statementNumber.FindAllString(string(content), -1) {
			if !known[statement(id)] {
				t.Errorf("%s speaks of %s, which no standard has", file, id)
			}
		}
	}
}

// statementNumber matches the number of a statement, with the misspellings that are to be found too.
var statementNumber = regexp.MustCompile(`\bMQTT[0-9]*-[0-9]+[0-9.-]*[0-9]`)

// shows says why a test does not show a statement, or nil.
func shows(top, test string, id statement) error {
	folder, name, isGo := strings.Cut(test, " ")
	text, err := "", error(nil)
	if isGo {
		text, err = testSource(filepath.Join(top, folder), name)
	} else {
		var content []byte
		content, err = os.ReadFile(filepath.Join(top, test))
		text = string(content)
	}
	if err != nil {
		return err
	}
	if !slices.Contains(statementNumber.FindAllString(text, -1), string(id)) {
		return fmt.Errorf("it does not name the statement")
	}
	return nil
}

// testSource gives the source of a test, and of what stands between it and the test before it: its comment and
// its table.
func testSource(folder, name string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if text, ok, err := cutTest(content, name); ok || err != nil {
			return text, err
		}
	}
	return "", fmt.Errorf("%s has no such test", filepath.Base(folder))
}

func cutTest(source []byte, name string) (text string, ok bool, err error) {
	positions := token.NewFileSet()
	parsed, err := parser.ParseFile(positions, "", source, parser.SkipObjectResolution)
	if err != nil {
		return "", false, err
	}
	begin := 0
	for _, d := range parsed.Decls {
		f, isFunc := d.(*ast.FuncDecl)
		if !isFunc || !strings.HasPrefix(f.Name.Name, "Test") {
			continue
		}
		end := positions.Position(f.End()).Offset
		if f.Name.Name == name {
			return string(source[begin:end]), true, nil
		}
		begin = end
	}
	return "", false, nil
}

// knownStatements gives all statements, those of MQTT 5.0 first.
func knownStatements(t *testing.T) (list []statement) {
	t.Helper()
	content, err := os.ReadFile("testdata/statements.txt")
	if err != nil {
		t.Fatal(err)
	}
	prefix := ""
	for line := range strings.Lines(string(content)) {
		switch line = strings.TrimSpace(line); {
		case line == "MQTT 5.0":
			prefix = "MQTT-"
		case line == "MQTT 3.1.1":
			prefix = "MQTT311-"
		case line != "" && !strings.HasPrefix(line, "#"):
			list = append(list, expand(t, prefix, line)...)
		}
	}
	return list
}

// expand reads a line such as "3.8.3 1-5".
func expand(t *testing.T, prefix, line string) (list []statement) {
	t.Helper()
	section, numbers, _ := strings.Cut(line, " ")
	low, high, ranged := strings.Cut(numbers, "-")
	if !ranged {
		high = low
	}
	from, err1 := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	if err1 != nil || err2 != nil || prefix == "" {
		t.Fatalf("testdata/statements.txt: bad line %q", line)
	}
	for n := from; n <= to; n++ {
		list = append(list, statement(fmt.Sprintf("%s%s-%d", prefix, section, n)))
	}
	return list
}

// tableRow matches a row: | [MQTT-1.5.4-1] | what it demands | both | `test`, `test` reason |
var tableRow = regexp.MustCompile(`^\| \[(MQTT[^\]]+)\] \| [^|]+ \| ([^|]+) \| ([^|]*) \|$`)

func conformanceRows(t *testing.T) (rows []row) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root(t), conformanceTable))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(line, "| [") {
			continue
		}
		m := tableRow.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			t.Errorf("%s: not a row: %s", conformanceTable, line)
			continue
		}
		r := row{id: statement(m[1]), binds: m[2]}
		r.tests, r.reason = splitTests(m[3])
		rows = append(rows, r)
	}
	return rows
}

// splitTests takes the tests in backquotes from the beginning of a cell.
func splitTests(cell string) (tests []string, reason string) {
	for {
		rest, found := strings.CutPrefix(cell, "`")
		if !found {
			return tests, cell
		}
		var test string
		test, cell, _ = strings.Cut(rest, "`")
		tests = append(tests, test)
		cell = strings.TrimLeft(cell, ",; ")
	}
}
