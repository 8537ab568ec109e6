package auth

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/vouchmq/vouchmq/internal/guard"
)

func TestCheckNamesTheField(t *testing.T) {
	jwt := func(c JWT) Config { return Config{Sources: []Source{{JWT: &c}}} }
	http := func(c HTTP) Config { return Config{Sources: []Source{{HTTP: &c}}} }
	rs := []string{"RS256"}
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{MaxHashes: 1000}, "max_hashes is 1000"},
		{Config{Anonymous: []string{""}}, "anonymous"},
		{Config{Sources: []Source{{Certificate: &Certificate{}}, {}}}, "sources[1]: it must have exactly one"},
		{Config{Sources: []Source{{Certificate: &Certificate{}, HTTP: &HTTP{}}}}, "sources[0]: it must have exactly one"},
		{Config{Sources: []Source{{Listeners: []string{""}, Certificate: &Certificate{}}}}, "sources[0].listeners"},
		{Config{Sources: passwordSources("")}, "sources[0].passwords.file is missing"},
		{jwt(JWT{Algorithms: rs}), "sources[0].jwt: exactly one of keys, url and secret"},
		{jwt(JWT{Algorithms: rs, Keys: "k", Secret: "s"}), "exactly one"},
		{jwt(JWT{Keys: "k"}), ".jwt.algorithms is missing"},
		{jwt(JWT{Keys: "k", Algorithms: []string{"none"}}), `.jwt.algorithms has "none"`},
		{jwt(JWT{Keys: "k", Algorithms: []string{"RS256", "HS256"}}), `.jwt.algorithms has "HS256"`},
		{jwt(JWT{Secret: "k", Algorithms: rs}), `.jwt.algorithms has "RS256"`},
		{jwt(JWT{Keys: "k", Algorithms: rs, From: "topic"}), ".jwt.from"},
		{jwt(JWT{Keys: "k", Algorithms: rs, Leeway: time.Hour}), ".jwt.leeway"},
		{jwt(JWT{Keys: "k", Algorithms: rs, Audience: []string{""}}), ".jwt.audience"},
		{jwt(JWT{Keys: "k", Algorithms: rs, CA: "ca"}), ".jwt: ca"},
		{jwt(JWT{URL: "https://x/", Algorithms: rs, Refresh: time.Second}), ".jwt.refresh"},
		{jwt(JWT{URL: "http://login.example/", Algorithms: rs}), ".jwt.url is http to another machine"},
		{http(HTTP{}), ".http.url is missing"},
		{http(HTTP{URL: "ftp://x/"}), ".http.url is not a URL"},
		{http(HTTP{URL: "127.0.0.1:80"}), ".http.url is not a URL"},
		{http(HTTP{URL: "https://user:pw@x/"}), ".http.url has a user name or password"},
		{http(HTTP{URL: "http://192.0.2.1/"}), ".http.url is http to another machine"},
		{http(HTTP{URL: "http://localhost.example/"}), ".http.url is http to another machine"},
		{http(HTTP{URL: "https://x/", Timeout: time.Hour}), ".http.timeout"},
		{http(HTTP{URL: "https://x/", MaxRequests: -1}), ".http.max_requests"},
		{http(HTTP{URL: "https://x/", Key: "k"}), ".http: certificate and key"},
	} {
		if err := c.config.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.config, err, c.want)
		}
	}
	for _, good := range []Config{
		{}, http(HTTP{URL: "http://127.0.0.1:80/"}), http(HTTP{URL: "http://[::1]:80/"}), http(HTTP{URL: "http://localhost/"}),
		http(HTTP{URL: "http://192.0.2.1/", Insecure: true}), jwt(JWT{URL: "https://x/", Algorithms: rs}),
	} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}

func TestResolveFilesAndListeners(t *testing.T) {
	c := Config{Anonymous: []string{"b"}, Attested: []string{"a"}, Sources: []Source{
		{Passwords: &Passwords{File: "p"}, Listeners: []string{"a", "c"}},
		{JWT: &JWT{Keys: "/k", CA: "ca"}},
		{HTTP: &HTTP{Certificate: "c", Key: "k"}},
		{Certificate: &Certificate{}},
	}}
	resolved := c.Resolve("/etc")
	if got, want := resolved.Files(), []string{"/etc/p", "/k", "/etc/ca", "/etc/c", "/etc/k"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	if c.Sources[0].Passwords.File != "p" {
		t.Error("Resolve changed its receiver")
	}
	if got := c.Listeners(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("listeners %v", got)
	}
}

// file is the part of the configuration file that this package and guard have.
type file struct {
	Authentication Config       `yaml:"authentication"`
	Guard          guard.Config `yaml:"guard"`
}

func TestConfigFromYAML(t *testing.T) {
	var f file
	err := yaml.UnmarshalWithOptions([]byte(`
authentication:
  anonymous: [plain]
  sources:
    - certificate: {}
    - listeners: [tls]
      jwt: { algorithms: [RS256], url: "https://login.example/keys", refresh: 90m, leeway: 5s }
guard:
  lockout: 1h
  exempt: [10.0.0.0/8]
`), &f, yaml.Strict())
	want := file{
		Config{Anonymous: []string{"plain"}, Sources: []Source{
			{Certificate: &Certificate{}},
			{Listeners: []string{"tls"}, JWT: &JWT{
				Algorithms: []string{"RS256"}, URL: "https://login.example/keys", Refresh: 90 * time.Minute, Leeway: 5 * time.Second,
			}},
		}},
		guard.Config{Lockout: time.Hour, Exempt: []string{"10.0.0.0/8"}},
	}
	if err != nil || !reflect.DeepEqual(f, want) {
		t.Errorf("got %+v, error %v", f, err)
	}
	if err := yaml.UnmarshalWithOptions([]byte("authentication: { anonymus: [plain] }"), &f, yaml.Strict()); err == nil {
		t.Error("an unknown key is accepted")
	}
}
