package archtest

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vouchmq/vouchmq"

// rooms says what each room may import directly; what those may import is
// allowed with it. A room is a folder with all that is in it, unless a longer
// row names a part of it. Tests are free: they may look at any room.
var rooms = map[string][]string{
	"cmd/vouchmq": {"internal/server", "internal/tee", "internal/gateway", "internal/atomicfile", "internal/auth", "internal/admin", "internal/metrics", "internal/swtpm", "client", "bench", "attest/sgx", "attest/tdx", "attest/sevsnp", "attest/tpm",
		"attest/nitro", "attest/cca", "attest/azure", "attest/sim", "attest/detect", "attest/ear", "attest/corim", "attest/attesttest"},
	"guest/broker": {"internal/broker", "internal/abi"},

	"internal/server": {"client", "internal/tee", "internal/transport", "internal/engine", "internal/module", "atls", "attest/sgx", "attest/tdx",
		"attest/sevsnp", "attest/tpm", "attest/nitro", "attest/cca", "attest/azure", "attest/sim", "internal/broker", "internal/admin",
		"internal/metrics", "internal/accesslog", "internal/redact", "internal/auth", "internal/guard", "internal/atomicfile", "attest/collateral"},
	"internal/tee":        {"attest/sgx", "attest/tdx", "attest/sevsnp", "attest/tpm", "attest/nitro", "attest/cca", "attest/azure", "attest/sim", "attest/collateral"},
	"internal/gateway":    {"client", "internal/mqtt"},
	"internal/transport":  {"internal/engine", "atls", "internal/abi", "internal/mqtt", "internal/accesslog"},
	"internal/auth":       {"internal/guard", "internal/abi", "internal/mqtt"},
	"internal/guard":      {},
	"internal/engine":     {"internal/abi", "internal/broker"},
	"internal/metrics":    {"internal/abi", "internal/engine", "internal/transport", "internal/httpd"},
	"internal/admin":      {"internal/abi", "internal/mqtt", "internal/metrics", "internal/httpd"},
	"internal/accesslog":  {"internal/abi", "internal/redact"},
	"internal/redact":     {},
	"internal/atomicfile": {},
	"internal/yamldoc":    {},
	"internal/httpd":      {},
	"internal/module":     {},
	"internal/broker":     {"internal/mqtt", "internal/abi"},
	"internal/mqtt":       {},
	"internal/abi":        {},

	"atls": {"attest", "attest/policy", "internal/dcbor", "internal/sign1", "internal/records"},
	// a client knows the drivers whose evidence it can judge
	"client": {"atls", "attest/sgx", "attest/tdx", "attest/sevsnp", "attest/tpm", "attest/nitro", "attest/cca", "attest/azure", "attest/sim"},
	"bench":  {"client", "internal/mqtt", "internal/records", "attest/attesttest"},

	"examples": {"client"}, // what everybody may import, and nothing internal

	"attest":                 {"internal/dcbor", "internal/sign1"},
	"attest/policy":          {"attest", "internal/yamldoc"},
	"attest/internal/links":  {},
	"attest/internal/dcap":   {"attest", "attest/internal/links"},
	"attest/collateral":      {"attest", "attest/internal/dcap"},
	"attest/sgx":             {"attest", "attest/collateral", "attest/internal/dcap"},
	"attest/tdx":             {"attest", "attest/collateral", "attest/internal/dcap", "attest/internal/tsm"},
	"attest/internal/tsm":    {"attest"},
	"attest/sevsnp":          {"attest", "attest/internal/links", "attest/internal/tsm"},
	"attest/tpm":             {"attest"},
	"attest/nitro":           {"attest", "attest/internal/links"},
	"attest/cca":             {"attest", "attest/internal/tsm"},
	"attest/azure":           {"attest", "attest/collateral", "attest/sevsnp", "attest/tdx", "attest/tpm", "internal/dcbor"},
	"attest/sim":             {"attest"},
	"attest/detect":          {"attest"},
	"attest/internal/signed": {"attest"},
	"attest/ear":             {"attest", "attest/internal/signed"},
	"attest/corim":           {"attest", "attest/policy", "attest/internal/signed"},
	"attest/attesttest":      {"attest", "attest/internal/dcap", "attest/sevsnp", "attest/sevsnp/sevsnptest", "attest/tpm", "attest/nitro", "attest/sim", "internal/dcbor"},

	"internal/dcbor":    {},
	"internal/sign1":    {"internal/dcbor"},
	"internal/swtpm":    {},
	"internal/records":  {},
	"internal/archtest": {},

	"attest/internal/appraised":  {"attest", "attest/policy"},             // for tests
	"attest/internal/flipped":    {"attest"},                              // for tests
	"attest/sevsnp/sevsnptest":   {"attest"},                              // for tests
	"attest/tpm/tpmtest":         {"internal/swtpm"},                      // for tests
	"internal/samples":           {},                                      // for tests
	"internal/fuzzbound":         {},                                      // for tests
	"internal/testkit":           {},                                      // for tests
	"internal/server/servertest": {"internal/server", "internal/testkit"}, // for tests
	"internal/leaktest":          {},                                      // for tests
	"internal/brokertest":        {"internal/abi", "internal/mqtt"},       // for tests
	"internal/mqtt/mqtttest":     {},                                      // for tests
}

// roomOf gives the room of a package folder, or "" if no row covers it.
func roomOf(folder string) string {
	for folder != "" {
		if _, ok := rooms[folder]; ok {
			return folder
		}
		folder = folder[:max(0, strings.LastIndexByte(folder, '/'))]
	}
	return ""
}

// reach gives all rooms that a room may import.
func reach(room string) map[string]bool {
	seen := map[string]bool{room: true}
	for open := []string{room}; len(open) > 0; {
		next := open[0]
		open = open[1:]
		for _, to := range rooms[next] {
			if !seen[to] {
				seen[to] = true
				open = append(open, to)
			}
		}
	}
	return seen
}

func TestARoomImportsOnlyRoomsBelowIt(t *testing.T) {
	for _, p := range packages(t) {
		room := roomOf(p.folder)
		if room == "" {
			t.Errorf("%s is in no room: add a row to the table", p.folder)
			continue
		}
		allowed := reach(room)
		for _, imported := range p.imports {
			folder, own := strings.CutPrefix(imported, module+"/")
			if own && !allowed[roomOf(folder)] {
				t.Errorf("%s imports %s, but the room %s may import only %v", p.folder, folder, room,
					slices.Sorted(maps.Keys(allowed)))
			}
		}
	}
}

func TestTheTableOfRoomsHasNoCycle(t *testing.T) {
	for room, roads := range rooms {
		for _, to := range roads {
			if _, ok := rooms[to]; !ok {
				t.Errorf("%s may import %s, which is no room", room, to)
			}
			if reach(to)[room] {
				t.Errorf("%s and %s may import each other", room, to)
			}
		}
	}
}

// pureRooms run inside the module. All that they need from outside comes in as
// an argument, so the standard library has little to give them: no net, os,
// time, sync, reflection or formatting.
var pureRooms = []string{"internal/mqtt", "internal/abi", "internal/broker"}

var pureImports = []string{
	"bytes", "cmp", "encoding/binary", "errors", "math", "math/bits", "slices", "strconv", "unicode/utf8",
	module + "/internal/mqtt", module + "/internal/abi",
}

func TestPureRoomsImportLittle(t *testing.T) {
	for _, p := range packages(t) {
		if !slices.Contains(pureRooms, roomOf(p.folder)) {
			continue
		}
		for _, imported := range p.imports {
			if !slices.Contains(pureImports, imported) {
				t.Errorf("%s imports %s, and runs inside the module", p.folder, imported)
			}
		}
	}
}

func TestPureRoomsStartNothing(t *testing.T) {
	for _, p := range packages(t) {
		if !slices.Contains(pureRooms, roomOf(p.folder)) {
			continue
		}
		for _, place := range p.concurrency {
			t.Errorf("%s: goroutines, channels and select have no place inside the module", place)
		}
	}
}

func TestEveryPackageHasADocComment(t *testing.T) {
	for _, p := range packages(t) {
		want := "Package " + p.name + " "
		if p.name == "main" {
			want = ""
		}
		if p.doc == "" || !strings.HasPrefix(p.doc, want) {
			t.Errorf("%s has no comment that begins with %q", p.folder, want)
		}
	}
}
