// Command testsum reads the output of `go test -json` and prints what a person wants to see of it: the closing
// line of each package, everything that a failed test printed, and the name and reason of each skipped test.
//
//	go test -json ./... | testsum
//
// It exits with status 1 if anything failed, or if there was nothing to read.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of `go test -json`, see `go doc test2json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// summary gathers what tests printed until it is known whether they passed.
type summary struct {
	out     io.Writer
	printed map[string][]string // by package and test
	blamed  map[string]bool     // packages with a failed test
	skipped []string
	passed  int
	failed  int
}

func main() {
	s := &summary{out: os.Stdout, printed: map[string][]string{}, blamed: map[string]bool{}}
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if !s.close() {
		os.Exit(1)
	}
}

func (s *summary) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(s.out, lines.Text())
			continue
		}
		s.take(e)
	}
	return lines.Err()
}

func (s *summary) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		if e.Test == "" {
			s.packageOutput(e)
			return
		}
		s.printed[key] = append(s.printed[key], e.Output)
	case "pass":
		delete(s.printed, key)
		if e.Test != "" {
			s.passed++
		}
	case "skip":
		if e.Test != "" {
			s.skipped = append(s.skipped, key+": "+s.reason(key))
		}
	case "fail":
		s.countFailed(e)
		fmt.Fprint(s.out, strings.Join(s.printed[key], ""))
		delete(s.printed, key)
	}
}

// countFailed counts a test; a package that failed without one, for it did not build or panicked, counts as one.
func (s *summary) countFailed(e event) {
	if e.Test != "" || !s.blamed[e.Package] {
		s.failed++
	}
	s.blamed[e.Package] = true
}

func (s *summary) packageOutput(e event) {
	if e.Output != "PASS\n" && !strings.Contains(e.Output, "[no test files]") {
		fmt.Fprint(s.out, e.Output)
	}
}

// reason is the line that t.Skip printed.
func (s *summary) reason(key string) string {
	for _, line := range s.printed[key] {
		if strings.HasPrefix(line, "    ") && strings.Contains(line, ".go:") {
			return strings.TrimSpace(line)
		}
	}
	return "no reason given"
}

func (s *summary) close() bool {
	for _, line := range s.skipped {
		fmt.Fprintln(s.out, "skipped", line)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, len(s.skipped))
	return s.failed == 0 && s.passed > 0
}
