package demo

import (
	"bytes"
	"os"
	"testing"
)

// section encodes a section of a WebAssembly module that is shorter than 128 bytes.
func section(id byte, content string) string {
	return string([]byte{id, byte(len(content))}) + content
}

func TestChangeOneByte(t *testing.T) {
	const header = "\x00asm\x01\x00\x00\x00"
	module := header + section(0, "\x04nameabc") + section(1, "\x00") + section(0, "\x01pxy") + section(2, "\x00")
	changed, err := ChangeOneByte([]byte(module))
	if err != nil {
		t.Fatal(err)
	}
	want := header + section(0, "\x04nameabc") + section(1, "\x00") + section(0, "\x01pxx") + section(2, "\x00")
	if string(changed) != want {
		t.Errorf("%q", changed)
	}
	for name, bad := range map[string]string{
		"empty":               "",
		"no module":           "#!/bin/sh\n",
		"no custom section":   header + section(1, "\x00"),
		"empty custom":        header + section(0, "\x01p"),
		"cut short":           module[:len(module)-1],
		"size cut short":      header + "\x01\xff",
		"size beyond the end": header + "\x00\x7f",
	} {
		if _, err := ChangeOneByte([]byte(bad)); err == nil {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestNoColourWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	c := newConsole(&out)
	c.heading("x")
	c.good("y")
	if bytes.Contains(out.Bytes(), []byte{0x1b}) {
		t.Errorf("escape sequence in %q", out.String())
	}
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if wantsColour(file) {
		t.Error("a file is taken for a terminal")
	}
}

func TestQuoted(t *testing.T) {
	if got := quoted([]string{"-t", "a/#", "it's", "", "x"}); got != `-t 'a/#' 'it'\''s' '' x` {
		t.Error(got)
	}
}
