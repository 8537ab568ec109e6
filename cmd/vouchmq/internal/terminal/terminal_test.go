package terminal_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/terminal"
)

func TestText(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "pump 7/ä日": "pump 7/ä日", "a\x1b[31mb": `a\x1b[31mb`, "a\nb\tc": `a\nb\tc`, "\u202eevil": `\u202eevil`,
		"\xff\xfe": `\xff\xfe`, `\n`: `\\n`, "'\"": `'"`, "\u200b": `\u200b`, "\x9b2J": `\x9b2J`, "\u009b": `\u009b`, "\ufffd": "\ufffd",
	} {
		if got := terminal.Text(s); got != want {
			t.Errorf("%q is shown as %s, want %s", s, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x1b[31m\\\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range terminal.Text(s) {
			if !unicode.IsPrint(r) {
				t.Errorf("%q is shown with %q", s, r)
			}
		}
	})
}

func TestTable(t *testing.T) {
	var out strings.Builder
	table := terminal.NewTable(&out, "NAME", "X")
	for range 2500 {
		if err := table.Row("a\tb\x1b", ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if !strings.HasPrefix(text, "NAME      X\na\\tb\\x1b  -\n") || strings.Count(text, "\n") != 2501 {
		t.Errorf("%d lines: %q", strings.Count(text, "\n"), text[:60])
	}
	if err := terminal.Facts(&out, "a", "", "b", "1\n"); err != nil || !strings.HasSuffix(out.String(), "\nb  1\\n\n") {
		t.Errorf("%q, error %v", out.String()[len(text):], err)
	}
}

type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestErrorsOfWritingAreSeen(t *testing.T) {
	table := terminal.NewTable(full{}, "NAME")
	var err error
	for i := 0; i < 2000 && err == nil; i++ {
		err = table.Row("x")
	}
	if !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
}
