package auth

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/vouchmq/vouchmq/internal/auth/passwords"
	"github.com/vouchmq/vouchmq/internal/guard"
)

// blocks are the texts between ```kind and ``` in the document for operators.
func blocks(t *testing.T, kind string) (list []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/authentication.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "\n```"+kind+"\n")[1:] {
		block, _, _ := strings.Cut(part, "\n```")
		list = append(list, block+"\n")
	}
	if len(list) == 0 {
		t.Fatalf("the document has no block of %s", kind)
	}
	return list
}

func TestDocumentedConfiguration(t *testing.T) {
	texts := append(blocks(t, "yaml"), inComment(t, "config.go", "authentication:"), inComment(t, "../guard/config.go", "guard:"))
	for _, text := range texts {
		var f file
		if err := yaml.UnmarshalWithOptions([]byte(text), &f, yaml.Strict()); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
		if err := f.Authentication.Check(); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
		if err := f.Guard.Check(); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
}

// inComment is the indented part of a doc comment that begins with a line.
func inComment(t *testing.T, path, first string) string {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(source), "//\t"+first+"\n")
	if !found {
		t.Fatalf("%s has no example", path)
	}
	text, _, _ := strings.Cut(rest, "//\n")
	return first + "\n" + strings.ReplaceAll(text, "//\t", "")
}

func TestDocumentedDefaultsOfTheGuard(t *testing.T) {
	for _, text := range blocks(t, "yaml") {
		var f file
		if err := yaml.Unmarshal([]byte(text), &f); err != nil || f.Guard.MaxAddresses == 0 {
			continue
		}
		want := guard.DefaultConfig()
		want.Exempt = f.Guard.Exempt
		if got := f.Guard; got.Failures != want.Failures || got.Window != want.Window || got.Lockout != want.Lockout ||
			got.Delay != want.Delay || got.MaxDelay != want.MaxDelay || got.MaxAddresses != want.MaxAddresses {
			t.Errorf("the document says %+v, the defaults are %+v", got, want)
		}
		return
	}
	t.Error("the document does not tell the defaults")
}

func TestDocumentedPasswordFile(t *testing.T) {
	f, err := passwords.Parse("docs", []byte(blocks(t, "passwords")[0]))
	if err != nil {
		t.Fatal(err)
	}
	for user, password := range map[string]string{"alice": "correct horse", "bob": "secret", "carol": "secret", "dave": "U*U"} {
		if u := f.Find(user); u == nil || !u.Check([]byte(password)) {
			t.Errorf("%s cannot log in with %q", user, password)
		}
	}
	if u := f.FindSCRAM("alice"); u == nil || !u.SCRAM.Check([]byte("correct horse")) {
		t.Error("alice cannot log in with SCRAM")
	}
}

func TestDocumentedHTTP(t *testing.T) {
	r := connect("alice", []byte("correct horse"))
	r.ClientID = "pump-7"
	c := &Client{Listener: "secure", Address: netip.MustParseAddrPort("203.0.113.7:51234")}
	got, err := json.Marshal((&question{c, r}).forHTTP())
	if want := strings.TrimSpace(blocks(t, "json question")[0]); err != nil || string(got) != want {
		t.Errorf("the document says\n%s\nand the service is asked\n%s", want, got)
	}
	if a, err := parseAnswer([]byte(blocks(t, "json answer")[0])); err != nil || a.Result != "allow" || a.User != "alice@plant" {
		t.Errorf("the answer is %+v, error %v", a, err)
	}
}

func TestDocumentedLogLine(t *testing.T) {
	a, _, _ := guarded(t, Config{}, 10)
	var b bytes.Buffer
	g, err := guard.New(guard.Config{}, guard.Options{Log: slog.New(slog.NewTextHandler(&b, nil))})
	if err != nil {
		t.Fatal(err)
	}
	a.guard = g
	l := &login{a: a, client: Client{Listener: "secure", Address: remote}, clientID: "pump-7"}
	l.blame(t.Context(), verdict{opinion: refuses, reason: "wrong password"}.result(&question{&l.client, connect("alice", nil)}))
	_, want, _ := strings.Cut(strings.TrimSpace(blocks(t, "log")[0]), " ")
	if _, got, _ := strings.Cut(strings.TrimSpace(b.String()), " "); got != want {
		t.Errorf("the document says\n%s\nand the log\n%s", want, got)
	}
}
