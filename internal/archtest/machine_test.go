package archtest

import (
	"bytes"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestNoFileNamesAMachine looks for paths and package hosts of the machine that
// the tests run on, and for home folders of anybody, in all files of the
// repository.
func TestNoFileNamesAMachine(t *testing.T) {
	top := root(t)
	names := machineNames(top, os.Environ())
	for _, file := range files(t, top) {
		content, err := os.ReadFile(filepath.Join(top, file))
		if err != nil || bytes.IndexByte(content, 0) >= 0 {
			continue // gone since it was listed, a folder behind a link, or binary
		}
		for _, leak := range leaks(string(content), names) {
			t.Errorf("%s names a machine: %s", file, leak)
		}
	}
}

// files lists what is or may be committed. Without git it is all files.
func files(t *testing.T, top string) []string {
	t.Helper()
	list, err := exec.Command("git", "-C", top, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err == nil {
		return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00")
	}
	var out []string
	err = filepath.WalkDir(top, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Name() == ".git" {
			return filepath.SkipDir
		}
		if entry.Type().IsRegular() {
			relative, _ := filepath.Rel(top, path)
			out = append(out, relative)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// publicHosts serve everybody, so their names give nothing away.
var publicHosts = []string{
	"proxy.golang.org", "sum.golang.org", "registry.npmjs.org", "pypi.org", "files.pythonhosted.org", "index.crates.io",
	"localhost", "127.0.0.1", "::1",
}

// hostVariables are environment variables whose addresses belong to the machine.
var hostVariables = regexp.MustCompile(`(?i)(proxy|registry|index_url|mirror)$`)

// machineNames gives the names that say where a file was written: the folder of
// the checkout and the one above it, the home folder, and the hosts that packages
// come from.
func machineNames(top string, environment []string) []string {
	names := []string{top, filepath.Dir(top) + "/"}
	for _, entry := range environment {
		key, value, _ := strings.Cut(entry, "=")
		switch {
		case key == "HOME":
			names = append(names, value+"/")
		case hostVariables.MatchString(key):
			names = append(names, hosts(value)...)
		}
	}
	return slices.DeleteFunc(names, isCommon)
}

// isCommon tells of names that every machine has.
func isCommon(name string) bool {
	return strings.Count(strings.TrimSuffix(name, "/"), "/") == 1 && slices.Contains(
		[]string{"/root", "/home", "/tmp", "/src", "/app", "/build", "/opt", "/usr", "/var"}, strings.TrimSuffix(name, "/")) ||
		strings.Trim(name, "/") == "" || slices.Contains(publicHosts, name)
}

// hosts gives the hosts of a list of addresses such as GOPROXY.
func hosts(list string) (out []string) {
	for _, address := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' || r == ' ' }) {
		if parsed, err := url.Parse(address); err == nil && parsed.Hostname() != "" {
			out = append(out, parsed.Hostname())
		}
	}
	return out
}

// homeFolder matches a path into somebody's home folder.
var homeFolder = regexp.MustCompile(`(^|[^\w./-])/(home|Users)/\w[\w.-]*/`)

// leaks gives what a text says about a machine. A name counts only where it
// begins: /data is not in sub/data, example.org not in my-example.org.
func leaks(text string, names []string) (out []string) {
	for _, name := range names {
		before := `(^|[^\w.-])`
		if strings.HasPrefix(name, "/") {
			before = `(^|[^\w./-])`
		}
		if regexp.MustCompile(before + regexp.QuoteMeta(name)).MatchString(text) {
			out = append(out, name)
		}
	}
	if found := homeFolder.FindString(text); found != "" {
		out = append(out, strings.TrimSpace(found))
	}
	return out
}

func TestLeaks(t *testing.T) {
	home := "/" + "home/" // in two parts, so that this file passes
	names := machineNames("/data/project", []string{
		"HOME=" + home + "ann", "GOPROXY=https://proxy.golang.org,https://user:word@mirror.example:8443/go|direct", "PATH=/bin",
	})
	for text, want := range map[string]int{
		"see /data/project/x":       2, // the checkout and the folder above it
		"see /data/other":           1,
		"sub/data/other, metadata/": 0,
		"in " + home + "ann/x":      2,
		"in " + home + "bob/x":      1,
		"https://mirror.example/x":  1,
		"mirror.example:443":        1,
		"other-mirror.example":      0,
		"https://proxy.golang.org":  0,
	} {
		if got := leaks(text, names); len(got) != want {
			t.Errorf("%q leaks %q, want %d", text, got, want)
		}
	}
}
