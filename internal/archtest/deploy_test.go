package archtest

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/settings"
)

// made are files that the steps of a README make before others are built from them.
var made = []string{"vouchmq", "build/vouchmq", "owner-ca.pem"}

func deployFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eachDeployed calls f with the path, from the top, of each file below deploy whose name has the form.
func eachDeployed(t *testing.T, pattern string, f func(path string)) {
	t.Helper()
	count := 0
	err := fs.WalkDir(os.DirFS(root(t)), "deploy", func(path string, entry fs.DirEntry, err error) error {
		if ok, _ := filepath.Match(pattern, entry.Name()); ok && !entry.IsDir() {
			count++
			f(filepath.Join(root(t), path))
		}
		return err
	})
	if err != nil || count == 0 {
		t.Fatalf("%d files %s, error %v", count, pattern, err)
	}
}

// need skips a test whose tool is not here, by name.
func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Skip(tool, "is not installed")
	}
}

// mustExist says that files of a folder are there, or are made by its README.
func mustExist(t *testing.T, folder string, names []string) {
	t.Helper()
	if len(names) == 0 {
		t.Error(folder, "names no files")
	}
	for _, name := range names {
		if slices.ContainsFunc(made, func(m string) bool { return name == m || strings.HasSuffix(name, "/"+m) }) {
			continue
		}
		if _, err := os.Stat(filepath.Join(root(t), folder, name)); err != nil {
			t.Error(folder, "names what is not there:", err)
		}
	}
}

type manifest struct {
	Loader struct{ Argv []string }
	FS     struct {
		Mounts []struct{ Type, Path, URI string }
	}
	SGX struct {
		Debug             bool
		RemoteAttestation string   `json:"remote_attestation"`
		TrustedFiles      []string `json:"trusted_files"`
		AllowedFiles      []string `json:"allowed_files"`
	}
}

// TestGramineManifests: the template gives manifests that are TOML, with files that are there, and no file is let in unmeasured.
func TestGramineManifests(t *testing.T) {
	need(t, "python3")
	mk, template := deployFile(t, "gramine/Makefile"), deployFile(t, "gramine/vouchmq.manifest.template")
	all := regexp.MustCompile(`(?m)^ARGV_(\w+) +:= (.*)$`).FindAllStringSubmatch(mk, -1)
	if len(all) != 3 {
		t.Fatal("enclaves:", all)
	}
	for _, argv := range all {
		text := strings.NewReplacer("{{ argv }}", argv[2], "{{ isvprodid }}", "1", "{{ isvsvn }}", "1").Replace(template)
		c := exec.CommandContext(t.Context(), "python3", "-c", "import json, sys, tomllib; json.dump(tomllib.loads(sys.stdin.read()), sys.stdout)")
		c.Stdin = strings.NewReader(text)
		out, err := c.CombinedOutput()
		if err != nil && strings.Contains(string(out), "No module named") {
			t.Skip("this python3 cannot read TOML: it is older than 3.11")
		}
		var m manifest
		if err != nil || json.Unmarshal(out, &m) != nil {
			t.Fatalf("%s: %v: %s", argv[1], err, out)
		}
		checkManifest(t, argv[1], &m)
	}
}

func checkManifest(t *testing.T, name string, m *manifest) {
	t.Helper()
	if m.SGX.Debug || m.SGX.RemoteAttestation != "dcap" || len(m.Loader.Argv) < 3 || m.Loader.Argv[0] != "vouchmq" {
		t.Errorf("%s: %+v", name, m)
	}
	var files []string
	for _, uri := range m.SGX.TrustedFiles {
		files = append(files, strings.TrimPrefix(uri, "file:"))
	}
	mustExist(t, "deploy/gramine", files)
	for _, mount := range m.FS.Mounts {
		measured := slices.Contains(m.SGX.TrustedFiles, mount.URI)
		if own := mount.Type == "encrypted" || mount.Type == "tmpfs"; !measured && !own && !slices.Equal(m.SGX.AllowedFiles, []string{mount.URI + "/"}) {
			t.Errorf("%s: %s is neither measured nor encrypted", name, mount.Path)
		}
	}
}

// TestContainerfilesAndImages: what they copy is there.
func TestContainerfilesAndImages(t *testing.T) {
	copies := regexp.MustCompile(`(?m)^COPY (.*) \S+$`)
	eachDeployed(t, "Containerfile", func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, line := range copies.FindAllStringSubmatch(string(b), -1) {
			names = append(names, slices.DeleteFunc(strings.Fields(line[1]), func(w string) bool { return strings.HasPrefix(w, "--") })...)
		}
		mustExist(t, ".", names)
	})
	var trees []string
	for _, line := range regexp.MustCompile(`(?m)^\t(\S+):/`).FindAllStringSubmatch(deployFile(t, "confidential-vm/mkosi.conf"), -1) {
		trees = append(trees, line[1])
	}
	mustExist(t, "deploy/confidential-vm", trees)
}

// TestDeployedConfigurations: they can be read, but for a TEE that this version does not have, and so can their policies.
func TestDeployedConfigurations(t *testing.T) {
	tee := regexp.MustCompile(`(?m)^tee: \w+`)
	eachDeployed(t, "vouchmq.yaml", func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := settings.Read(settings.Source{Name: path, Text: tee.ReplaceAll(b, []byte("tee: sim")), Base: server.Defaults()})
		if err != nil {
			t.Error(err)
			return
		}
		name := filepath.Join(filepath.Dir(path), s.Policy)
		text, err := os.ReadFile(name)
		if err == nil {
			_, err = policy.Parse(name, text)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// TestDeployedScripts: a shell can read them.
func TestDeployedScripts(t *testing.T) {
	need(t, "sh")
	for _, name := range []string{"enrol/enrol", "nitro/start", "nitro/build"} {
		path := filepath.Join(root(t), "deploy", name)
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if info, err := os.Stat(path); err != nil || info.Mode()&0o111 == 0 {
			t.Error(name, "cannot be executed", err)
		}
	}
}

// elsewhere is what systemd finds wrong with units only because this machine is not the one they are for, or is too old.
var elsewhere = regexp.MustCompile(`is not executable: No such file|nitro-enclaves-allocator.service not found|service type, ignoring: notify-reload|` +
	`^$|Cannot find unit|Failed to connect to bus`)

// TestUnits: systemd knows all that units say.
func TestUnits(t *testing.T) {
	need(t, "systemd-analyze")
	var units []string
	for _, pattern := range []string{"*.service", "*.socket"} {
		eachDeployed(t, pattern, func(path string) {
			if !strings.Contains(path, "/confidential-vm/vouchmq.service") { // of the same name as another, see below
				units = append(units, path)
			}
		})
	}
	for _, list := range [][]string{units, {filepath.Join(root(t), "deploy/confidential-vm/vouchmq.service")}} {
		out, _ := exec.CommandContext(t.Context(), "systemd-analyze", append([]string{"verify", "--man=no"}, list...)...).CombinedOutput()
		for _, line := range strings.Split(string(out), "\n") {
			if !elsewhere.MatchString(line) {
				t.Error(line)
			}
		}
	}
}

// TestEveryDeploymentSaysWhatWasTried: a folder has a README with the sections that tell so.
func TestEveryDeploymentSaysWhatWasTried(t *testing.T) {
	for _, folder := range []string{"gramine", "confidential-vm", "nitro", "container"} {
		text := deployFile(t, folder+"/README.md")
		for _, heading := range []string{"## Step by step", "## What was tried, and what was not"} {
			if !strings.Contains(text, "\n"+heading+"\n") {
				t.Errorf("%s: there is no section %q", folder, heading)
			}
		}
	}
}
