package settings_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/settings"
)

const goodFile = `
service: broker.plant.example
policy: policy.yaml
tee: sim
engine: native
log: { level: debug, format: json }
listeners:
  - { name: plain, kind: tcp, address: "127.0.0.1:0" }
  - { name: secure, kind: attested, address: "127.0.0.1:0", require_evidence: true }
limits: { max_packet_size: 4096, stall_timeout: 2s, max_connections: 10 }
`

func read(text string, change func(*settings.Source)) (*settings.Settings, error) {
	source := settings.Source{Name: "vouchmq.yaml", Text: []byte(text), Base: server.Defaults()}
	if change != nil {
		change(&source)
	}
	return settings.Read(source)
}

func TestFileIsRead(t *testing.T) {
	s, err := read(goodFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Limits.StallTimeout != 2*time.Second || s.Limits.MaxPacketSize != 4096 || s.Limits.MaxInflight != server.DefaultLimits().MaxInflight ||
		len(s.Listeners) != 2 || !s.Listeners[1].RequireEvidence || s.Listeners[0].Mode != "0660" {
		t.Fatalf("read %+v", s.File)
	}
	if o := s.Origin("log.level"); o.String() != "vouchmq.yaml:6:15" {
		t.Errorf("log.level comes from %s", o)
	}
	if o := s.Origin("limits.max_inflight"); o.Where != settings.FromFile { // the section stands in the file
		t.Errorf("limits.max_inflight: %s", o)
	}
}

// Each problem has its place, and a file with several tells all of them.
func TestProblemsHaveTheirPlace(t *testing.T) {
	for _, test := range []struct{ name, from, to, want string }{
		{"unknown key", "tee: sim", "tee: sim\ntree: oak", "vouchmq.yaml:5:1: tree: unknown key; did you mean tee?"},
		{"unknown key of a listener", "kind: tcp,", "kind: tcp, speed: 3,", "vouchmq.yaml:8:31: listeners[0].speed: unknown key; known are name, kind"},
		{"wrong type", "max_packet_size: 4096", "max_packet_size: large", "vouchmq.yaml:10:28: limits.max_packet_size: a whole number is expected here"},
		{"number in quotes", "max_packet_size: 4096", `max_packet_size: "4096"`, "a whole number is expected here"},
		{"too large", "max_packet_size: 4096", "max_packet_size: 4294967296", "4294967296\" is not a whole number from 0 to 4294967295"},
		{"beyond MQTT", "max_packet_size: 4096", "max_packet_size: 268435456", "268435456 is more than 268435455"},
		{"text that is a number", "service: broker.plant.example", "service: 12", "vouchmq.yaml:2:10: service: text (in quotes"},
		{"no service", "service: broker.plant.example", "", "vouchmq.yaml: service: it is missing: name of the service"},
		{"no policy", "policy: policy.yaml", "", "policy: it is missing"},
		{"other TEE", "tee: sim", "tee: oak", `vouchmq.yaml:4:6: tee: "oak" is not known: use sim, sgx, tdx, sevsnp, cca, nitro, azure, tpm or auto`},
		{"no TEE", "tee: sim", "", "tee: it is missing"},
		{"level", "level: debug", "level: wran", `log.level: "wran" is not known: use debug, info, warn or error`},
		{"no vsock port", `kind: attested, address: "127.0.0.1:0"`, `kind: attested, address: "vsock:x"`, `listeners[1].address: port "x" is not a number from 1`},
		{"plain vsock", `kind: tcp, address: "127.0.0.1:0"`, `kind: tcp, address: "vsock:1883"`, "vsock:1883 can be reached from other machines"},
		{"no address", "limits:", "attestation: { collateral: { pcs: pccs.example } }\nlimits:", `attestation.collateral.pcs: "pccs.example" is not an address such as https://pccs.example:8081`},
		{"no file to fetch", "limits:", "attestation: { collateral: { root_crl: \"file:///x\" } }\nlimits:", `attestation.collateral.root_crl: "file:///x" is not an address`},
		{"negative", "max_connections: 10", "max_connections: -10", "-10 is less than 1"},
		{"long", "stall_timeout: 2s", "stall_timeout: 48h", "48h0m0s is more than 24h"},
		{"no unit", "stall_timeout: 2s", "stall_timeout: 2", "a time, such as 10s, is expected here"},
		{"no time", "stall_timeout: 2s", "stall_timeout: soon", `"soon" is not a time`},
		{"no list", "listeners:", "listeners: {}\nx:", "listeners: a list is expected here"},
		{"list for keys", "log: { level: debug, format: json }", "log: [debug]", "log: keys and values are expected here"},
		{"alias", "tee: sim", "tee: &a sim", "anchors, aliases"},
		{"twice", "tee: sim", "tee: sim\ntee: sim", `vouchmq.yaml:5:1: not valid YAML: mapping key "tee" already defined`},
		{"two of a name", "name: secure", "name: plain", `vouchmq.yaml:9:13: listeners[1].name: listener "plain" is configured twice`},
		{"no name", "name: secure, ", "", "listeners[1].name: it is missing"},
		{"name", "name: secure", "name: '../x'", "is not a name"},
		{"evidence", "kind: attested", "kind: tls", "vouchmq.yaml:9:74: listeners[1].require_evidence: only a listener of kind attested"},
		{"nobody to reveal to", "require_evidence: true", "reveal: authenticated", "vouchmq.yaml:9:69: listeners[1].reveal: authenticated needs client_certificates"},
		{"nothing to reveal", "kind: tcp,", "kind: tcp, reveal: authenticated,", "listeners[0].reveal: only a listener of kind attested has evidence"},
		{"reveal", "require_evidence: true", "reveal: last", `listeners[1].reveal: "last" is not known: use first or authenticated`},
		{"p1 without evidence", "kind: tcp,", "kind: tcp, p1_without_ech: true,", "listeners[0].p1_without_ech: only a listener of kind attested attests"},
		{"plain beyond this machine", `tcp, address: "127.0.0.1:0"`, `tcp, address: ":1883"`, `listeners[0].address: :1883 can be reached from other machines`},
		{"address", `tcp, address: "127.0.0.1:0"`, `tcp, address: localhost`, `"localhost" is not host:port`},
		{"port", `tcp, address: "127.0.0.1:0"`, `tcp, address: "localhost:mqtt"`, `port "mqtt" is not a number`},
		{"relative socket", `tcp, address: "127.0.0.1:0"`, `tcp, address: "unix:a"`, `"a" is not an absolute path`},
		{"mode", `tcp, address: "127.0.0.1:0"`, `tcp, address: "unix:/a", mode: "0999"`, `listeners[0].mode: "0999" is not a mode`},
		{"certificates over TCP", "kind: tcp,", "kind: tcp, client_certificates: {ca: a},", "a listener of kind tcp has no TLS"},
		{"half a pair", "tee: sim", "tee: sim\ntls: {certificate: a}", "vouchmq.yaml:5:6: tls: certificate and key belong together"},
		{"networks", "kind: tcp,", "kind: tcp, proxy_protocol: {from: [10.0.0.0/99]},", "vouchmq.yaml:8:55: listeners[0].proxy_protocol.from[0]: "},
		{"path", "kind: tcp,", "kind: ws, websocket: {path: mqtt},", `"mqtt" does not begin with /`},
		{"websocket", "kind: tcp,", "kind: tcp, websocket: {},", "it is for listeners of kind ws and wss"},
		{"quote time of hardware", "tee: sim", "tee: tpm\nsim: { quote_time: 5ms }", "vouchmq.yaml:5:20: sim.quote_time: only the simulated TEE takes as long as it is told"},
		{"public name", "tee: sim", "tee: sim\npublic_name: broker.plant.example", "observers would see"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(goodFile, test.from, test.to, 1)
			if text == goodFile {
				t.Fatal("the test changes nothing")
			}
			_, err := read(text, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, settings.ErrSettings) {
				t.Fatalf("error\n%v\nwant\n%s", err, test.want)
			}
		})
	}
	_, err := read(strings.NewReplacer("tee: sim", "tee: oak", "level: debug", "level: loud", "2s", "2").Replace(goodFile), nil)
	var all settings.Problems
	if !errors.As(err, &all) || len(all) != 3 {
		t.Fatalf("not three problems, but\n%v", err)
	}
}

func TestEnvironmentAndFlags(t *testing.T) {
	s, err := read(goodFile, func(s *settings.Source) {
		s.Environ = []string{
			"HOME=/root", "VOUCHMQ_LOG__LEVEL=warn", "VOUCHMQ_LOG__FORMAT=text", "VOUCHMQ_PASSWORD=x",
			"VOUCHMQ_LISTENERS__SECURE__ADDRESS=127.0.0.1:8884", "VOUCHMQ_LISTENERS__PLAIN__PROXY_PROTOCOL__FROM=10.0.0.0/8, ::1/128",
		}
		s.Ignored = []string{"VOUCHMQ_PASSWORD"}
		s.Flags = []settings.Flag{{Path: "log.level", Name: "--log-level", Value: "error"}, {Path: "listeners[plain].address", Name: "--listen-plain", Value: "127.0.0.1:9"}}
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Log.Level != "error" || s.Log.Format != "text" || s.Listeners[1].Address != "127.0.0.1:8884" ||
		s.Listeners[0].Address != "127.0.0.1:9" || len(s.Listeners[0].ProxyProtocol.From) != 2 {
		t.Fatalf("read %+v", s.File)
	}
	origins := map[string]string{}
	for _, l := range s.Show() {
		origins[l.Path] = l.Origin
	}
	for path, want := range map[string]string{
		"log.level": "--log-level", "log.format": "VOUCHMQ_LOG__FORMAT", "service": "vouchmq.yaml:2:10", "shutdown": "default",
		"listeners[secure].address": "VOUCHMQ_LISTENERS__SECURE__ADDRESS", "limits.max_inflight": "default",
	} {
		if origins[path] != want {
			t.Errorf("%s comes from %q, want %q", path, origins[path], want)
		}
	}
	for _, test := range []struct{ variable, want string }{
		{"VOUCHMQ_LOG__LEVLE=warn", "VOUCHMQ_LOG__LEVLE: no key has this variable; did you mean VOUCHMQ_LOG__LEVEL?"},
		{"VOUCHMQ_LOG__LEVEL=loud", `VOUCHMQ_LOG__LEVEL: log.level: "loud" is not known`},
		{"VOUCHMQ_LIMITS__MAX_INFLIGHT=0", "VOUCHMQ_LIMITS__MAX_INFLIGHT: limits.max_inflight: 0 is less than 1"},
		{"VOUCHMQ_LISTENERS__OTHER__ADDRESS=:1", "no key has this variable"},
	} {
		_, err := read(goodFile, func(s *settings.Source) { s.Environ = []string{test.variable} })
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %s", test.variable, err, test.want)
		}
	}
}

// What the file lacks may stand in a variable.
func TestRequiredKeysMayComeFromElsewhere(t *testing.T) {
	text := strings.Replace(goodFile, "service: broker.plant.example", "", 1)
	s, err := read(text, func(s *settings.Source) { s.Environ = []string{"VOUCHMQ_SERVICE=a.example"} })
	if err != nil || s.Service != "a.example" {
		t.Fatalf("service %q, error %v", s.Service, err)
	}
}

var update = flag.Bool("update", false, "write docs/vouchmq.schema.json anew")

const docs = "../../../docs"

func TestSchemaFileIsCurrent(t *testing.T) {
	want, err := settings.Schema(server.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(docs, "vouchmq.schema.json")
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s is not what the structs say (error %v): go test ./internal/server/settings -update", path, err)
	}
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	b, err := settings.Schema(server.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("vouchmq.json", document); err != nil {
		t.Fatal(err)
	}
	return compiler.MustCompile("vouchmq.json")
}

// validate judges YAML by the schema.
func validate(schema *jsonschema.Schema, text string) error {
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// Schema and reader take the same keys and the same values.
func TestSchemaAndReaderAgree(t *testing.T) {
	schema := compiled(t)
	for _, test := range []struct {
		line string
		good bool
	}{
		{"", true},
		{"shutdown: 1m30s", true}, {"shutdown: 10", false}, {"shutdown: soon", false},
		{"memory: 1048576", true}, {"memory: 4294967297", false}, {"memory: -1", false}, {`memory: "1048576"`, false},
		{"tls: {min_version: 1.2}", true}, {`tls: {min_version: "1.3"}`, true}, {"tls: {min_version: 1.1}", false},
		{"mqtt: {check_payload: true}", true}, {"mqtt: {check_payload: 1}", false}, {"mqtt: {shared: sticky}", true}, {"mqtt: {shared: first}", false},
		{"limits:", true}, {"limits: {max_topic_levels: 65536}", false}, {"limits: {max_topic_levels: 65535}", true},
		{"metrics: {address: 9090}", false}, {"unknown: 1", false}, {"log: []", false}, {"log: {level: Info}", false},
	} {
		text := goodFileWithout(test.line) + test.line + "\n"
		_, readErr := read(text, nil)
		schemaErr := validate(schema, text)
		if (readErr == nil) != test.good || (schemaErr == nil) != test.good {
			t.Errorf("%s: reader says %v, schema says %v, want good: %v", test.line, readErr, schemaErr, test.good)
		}
	}
}

// goodFileWithout is goodFile without the key of a line that replaces it.
func goodFileWithout(line string) string {
	key, _, _ := strings.Cut(line, ":")
	var kept []string
	for l := range strings.Lines(goodFile) {
		if key == "" || !strings.HasPrefix(l, key+":") {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "")
}

func TestKeysAreThoseOfTheSchema(t *testing.T) {
	b, err := settings.Schema(server.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(b, &root); err != nil {
		t.Fatal(err)
	}
	var inSchema, known []string
	walkSchema(root, "", &inSchema)
	for _, k := range settings.Keys() {
		known = append(known, k.Path)
		if k.Doc == "" {
			t.Errorf("%s has no description", k.Path)
		}
	}
	slices.Sort(inSchema)
	slices.Sort(known)
	if !slices.Equal(inSchema, known) {
		t.Fatalf("schema has %v\nreader has %v", inSchema, known)
	}
}

func walkSchema(node map[string]any, path string, keys *[]string) {
	if items, ok := node["items"].(map[string]any); ok {
		walkSchema(items, path+"[]", keys)
	}
	properties, _ := node["properties"].(map[string]any)
	for key, below := range properties {
		name := strings.TrimPrefix(path+"."+key, ".")
		*keys = append(*keys, name)
		walkSchema(below.(map[string]any), name, keys)
	}
}

// Bounds in tags can be read as values of their fields, or they would bind nothing.
func TestTagsAreGood(t *testing.T) {
	checkTags(t, reflect.TypeFor[settings.File]())
}

func checkTags(t *testing.T, typ reflect.Type) {
	for _, f := range reflect.VisibleFields(typ) {
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && strings.HasPrefix(inner.PkgPath(), "github.com/vouchmq/") {
			checkTags(t, inner)
		}
		for _, tag := range []string{f.Tag.Get("min"), f.Tag.Get("max")} {
			if tag == "" {
				continue
			}
			if _, err := time.ParseDuration(tag); (inner == reflect.TypeFor[time.Duration]()) != (err == nil) && tag != "0" {
				t.Errorf("%s.%s: bound %q", typ, f.Name, tag)
			}
		}
	}
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// Examples of whole configuration files in the documents are good ones.
func TestExamplesInDocumentsAreGood(t *testing.T) {
	schema := compiled(t)
	found := 0
	paths, err := filepath.Glob(filepath.Join(docs, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(paths, filepath.Join(docs, "..", "README.md")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(m[1], "service:") {
				continue
			}
			found++
			if _, err := read(m[1], nil); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			if err := validate(schema, m[1]); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if found == 0 {
		t.Error("no example was found")
	}
}

// Each key is explained.
func TestEveryKeyIsDocumented(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(docs, "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range settings.Keys() {
		if !strings.Contains(string(b), "`"+k.Path+"`") {
			t.Errorf("docs/configuration.md does not explain `%s`: %s", k.Path, k.Doc)
		}
	}
}

// FuzzRead: whatever stands in a file, it is read or refused, and each problem has a text.
func FuzzRead(f *testing.F) {
	f.Add([]byte(goodFile), "VOUCHMQ_LOG__LEVEL=warn")
	f.Add([]byte("listeners: [[]]"), "VOUCHMQ_")
	f.Add([]byte("a: &a [*a]"), "VOUCHMQ_LISTENERS__PLAIN__MODE=")
	f.Add([]byte("tee: !!binary x\n<<: {}"), "")
	f.Fuzz(func(t *testing.T, text []byte, variable string) {
		if len(text) > 1<<16 {
			return
		}
		s, err := settings.Read(settings.Source{Name: "f", Text: text, Base: server.Defaults(), Environ: []string{variable}})
		var problems settings.Problems
		if err != nil && (!errors.As(err, &problems) || len(problems) == 0) {
			t.Fatalf("error without a problem: %v", err)
		}
		for _, l := range s.Show() {
			if l.Path == "" || fmt.Sprint(l) == "" {
				t.Fatalf("empty line %+v", l)
			}
		}
	})
}
