package passwords

import (
	"bytes"
	"strings"
)

// Set returns the text of a file in which the user has exactly the given hashes. They stand where the user stood
// before, or at the end. Everything else, comments too, stays as it is.
func Set(text []byte, user string, hashes ...string) []byte {
	var fresh strings.Builder
	for _, h := range hashes {
		fresh.WriteString(user + ":" + h + "\n")
	}
	out, found := replace(text, user, fresh.String())
	if !found {
		out = append(out, fresh.String()...)
	}
	return out
}

// Delete returns the text of a file without the user's lines, and whether there were any.
func Delete(text []byte, user string) ([]byte, bool) { return replace(text, user, "") }

// replace puts fresh in the place of the first line of a user, and drops the others.
func replace(text []byte, user, fresh string) (out []byte, found bool) {
	for raw := range bytes.Lines(text) {
		if name, _, err := splitLine(raw); err != nil || name != user {
			out = append(out, raw...)
			continue
		}
		if !found {
			out = append(out, fresh...)
		}
		found = true
	}
	if n := len(out); n > 0 && out[n-1] != '\n' {
		out = append(out, '\n')
	}
	return out, found
}
