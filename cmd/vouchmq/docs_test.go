package main

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// documents are all Markdown files of the repository.
func documents(t *testing.T) (paths []string) {
	t.Helper()
	top := filepath.Join("..", "..")
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".git") || d.Name() == "build") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDocumentedCommandsExist reads each command line of vouchmq in the documents and in the help texts, and has its
// flags parsed.
func TestDocumentedCommandsExist(t *testing.T) {
	found := 0
	check := func(where, line string) {
		found++
		if err := parses(line); err != nil {
			t.Errorf("%s: %s: %v", where, line, err)
		}
	}
	for _, path := range documents(t) {
		for _, line := range shellLines(read(t, path)) {
			check(path, line)
		}
	}
	for _, c := range allCommands(newRoot()) {
		for line := range strings.Lines(c.Example) {
			check("help of "+c.CommandPath(), strings.TrimSpace(line))
		}
	}
	if found < 10 {
		t.Errorf("only %d command lines were found", found)
	}
}

func allCommands(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		all = append(all, allCommands(sub)...)
	}
	return all
}

// shellLines are the lines with vouchmq in blocks of ```sh.
func shellLines(markdown string) (lines []string) {
	inside := false
	scanner := bufio.NewScanner(strings.NewReader(markdown))
	for scanner.Scan() {
		line := scanner.Text()
		if strings.HasPrefix(line, "```") {
			inside = line == "```sh"
			continue
		}
		if inside && strings.Contains(line, "vouchmq ") && !strings.HasPrefix(line, "mosquitto_") {
			lines = append(lines, line)
		}
	}
	return lines
}

// parses finds the command of a line and parses its flags, as far as it is one of vouchmq.
func parses(line string) error {
	if _, after, piped := strings.Cut(line, "| "); piped {
		line = after
	}
	words := splitWords(line)
	if len(words) == 0 || filepath.Base(words[0]) != "vouchmq" {
		return nil
	}
	c, rest, err := newRoot().Find(joinProperties(words[1:]))
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}

var word = regexp.MustCompile(`'[^']*'|\S+`)

func splitWords(line string) (words []string) {
	for _, w := range word.FindAllString(line, -1) {
		if strings.HasPrefix(w, "#") {
			break
		}
		words = append(words, strings.Trim(w, "'"))
	}
	return words
}

var link = regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`)

// TestLinksResolve follows the links between documents, headings included.
func TestLinksResolve(t *testing.T) {
	for _, path := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, path), -1) {
			target, anchor := m[1], strings.TrimPrefix(m[2], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := path
			if target != "" {
				file = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: link to %s leads nowhere", path, target)
				continue
			}
			if anchor != "" && !hasHeading(read(t, file), anchor) {
				t.Errorf("%s: %s has no heading %q", path, target, anchor)
			}
		}
	}
}

var notInAnchor = regexp.MustCompile(`[^a-z0-9 _-]`)

func hasHeading(markdown, anchor string) bool {
	for line := range strings.Lines(markdown) {
		if !strings.HasPrefix(line, "#") {
			continue
		}
		text := strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#")))
		if strings.ReplaceAll(notInAnchor.ReplaceAllString(text, ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}
