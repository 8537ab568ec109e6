// Package terminal shows what strangers have chosen, such as client ids and topics, on a terminal: no control
// character of theirs reaches it.
package terminal

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"
)

// Text returns s with everything escaped, as in a Go string, that is not a plain character: control characters, those
// that change the direction of writing, and bytes that are not UTF-8. A backslash is escaped too, so that no two texts
// look the same.
func Text(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r) && r != '\\':
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		s = s[size:]
	}
	return b.String()
}

// flushEvery is after how many rows a table is written: its columns fit those rows, and memory stays small.
const flushEvery = 1000

// Table writes rows with columns that stand below each other.
type Table struct {
	w    *tabwriter.Writer
	rows int
}

// NewTable begins a table with its heads.
func NewTable(w io.Writer, heads ...string) *Table {
	t := &Table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	_ = t.Row(heads...) // the writer keeps its first error for the next row
	return t
}

// Row adds a row. Each cell is shown by Text; an empty one as a dash.
func (t *Table) Row(cells ...string) error {
	shown := make([]string, len(cells))
	for i, c := range cells {
		if shown[i] = Text(c); c == "" {
			shown[i] = "-"
		}
	}
	if _, err := fmt.Fprintln(t.w, strings.Join(shown, "\t")); err != nil {
		return err
	}
	if t.rows++; t.rows%flushEvery == 0 {
		return t.w.Flush()
	}
	return nil
}

// Close writes what is left.
func (t *Table) Close() error { return t.w.Flush() }

// Facts writes pairs of name and value below each other, those without a value left out.
func Facts(w io.Writer, pairs ...string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for ; len(pairs) >= 2; pairs = pairs[2:] {
		if pairs[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(t, "%s\t%s\n", pairs[0], Text(pairs[1])); err != nil {
			return err
		}
	}
	return t.Flush()
}
