package mqtt

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestValidTopicName(t *testing.T) {
	for topic, want := range map[string]bool{
		"a": true, "/": true, "a//b": true, "$SYS/x": true, " ": true, "a/b\u0001": true,
		strings.Repeat("x", MaxStringLength):   true,
		"":                                     false, // [MQTT-4.7.3-1]
		"a\x00b":                               false, // [MQTT-4.7.3-2]
		strings.Repeat("x", MaxStringLength+1): false, // [MQTT-4.7.3-3]
		"+":                                    false, // [MQTT-4.7.0-1]
		"a/#":                                  false, // [MQTT-4.7.0-1]
		"a\xff":                                false, // [MQTT-1.5.4-1]
	} {
		if got := ValidTopicName([]byte(topic)); got != want {
			t.Errorf("ValidTopicName(%.20q) = %t", topic, got)
		}
	}
}

func TestValidTopicFilter(t *testing.T) {
	for filter, want := range map[string]bool{
		"a": true, "/": true, "#": true, "+": true, "a/#": true, "/#": true, "+/+": true, "+/a/#": true, "$SYS/#": true,
		"":           false, // [MQTT-4.7.3-1]
		"a#":         false, // [MQTT-4.7.1-1]
		"#/a":        false,
		"a/#/b":      false,
		"##":         false,
		"a/#/":       false,
		"a+":         false, // [MQTT-4.7.1-2]
		"a/+b":       false,
		"++":         false,
		"+#":         false,
		"a\x00/#":    false, // [MQTT-4.7.3-2]
		"\xc3\x28/+": false, // [MQTT-1.5.4-1]
		strings.Repeat("x", MaxStringLength-1) + "/#": false, // [MQTT-4.7.3-3]
	} {
		if got := ValidTopicFilter([]byte(filter)); got != want {
			t.Errorf("ValidTopicFilter(%.20q) = %t", filter, got)
		}
	}
}

func TestParseShared(t *testing.T) { // 4.8.2
	for _, test := range []struct {
		in, group, filter string
		shared, ok        bool
	}{
		{"a/b", "", "a/b", false, true},
		{"$share", "", "$share", false, true},
		{"$shared/g/a", "", "$shared/g/a", false, true},
		{"$share/g/a", "g", "a", true, true},
		{"$share/g/+/b/#", "g", "+/b/#", true, true},
		{"$share/g//", "g", "/", true, true},
		{"$share/", "", "", true, false},
		{"$share//a", "", "a", true, false},
		{"$share/g", "g", "", true, false},
		{"$share/g/", "g", "", true, false},
		{"$share/g+/a", "g+", "a", true, false},
		{"$share/#", "#", "", true, false},
		{"$share/g/a#", "g", "a#", true, false},
		{"$share/g/$share/h/a", "g", "$share/h/a", true, false},
		{"$share/g/$share", "g", "$share", true, true},
		{"$share/\xff/a", "\xff", "a", true, false},
	} {
		group, filter, shared, ok := ParseShared([]byte(test.in))
		if string(group) != test.group || string(filter) != test.filter || shared != test.shared || ok != test.ok {
			t.Errorf("ParseShared(%q) = %q, %q, %t, %t", test.in, group, filter, shared, ok)
		}
	}
}

func TestMatch(t *testing.T) { // the examples of 4.7.1 and 4.7.2
	for _, test := range []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/tennis/player1/#", "sport/tennis/player2", false},
		{"sport/#", "sport", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"#", "$SYS/monitor", false}, // [MQTT-4.7.2-1]
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"a/$x", "a/$x", true},
		{"+/+", "a/$x", true},
		{"ACCOUNTS", "Accounts", false}, // 4.7.3: case counts
		{"Accounts payable", "Accounts payable", true},
		{"/finance", "finance", false},
		{"a", "a/", false},
		{"a/", "a", false},
	} {
		if got := Match([]byte(test.filter), []byte(test.topic)); got != test.want {
			t.Errorf("Match(%q, %q) = %t", test.filter, test.topic, got)
		}
	}
}

// TestEmptyTopics: neither is valid, but neither may be the end of the program.
func TestEmptyTopics(t *testing.T) {
	for _, other := range []string{"", "#", "+", "a", "$x", "/"} {
		Match([]byte(other), nil)
		Match(nil, []byte(other))
		if Covers(nil, []byte(other)) && other != "" {
			t.Errorf("nothing covers %q", other)
		}
		Covers([]byte(other), nil)
	}
}

// matcher is an independent reading of 4.7: a filter as a regular expression.
func matcher(filter string) func(topic string) bool {
	var pattern strings.Builder
	pattern.WriteString("^")
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		separator := "/"
		if i == 0 {
			separator = ""
		}
		switch {
		case level == "#" && i == 0:
			pattern.WriteString("(?s).*")
		case level == "#":
			pattern.WriteString("(?s)(/.*)?")
		case level == "+":
			pattern.WriteString(separator + "[^/]*")
		default:
			pattern.WriteString(separator + regexp.QuoteMeta(level))
		}
	}
	expression := regexp.MustCompile(pattern.String() + "$")
	wildFirst := levels[0] == "#" || levels[0] == "+"
	return func(topic string) bool {
		return !(wildFirst && strings.HasPrefix(topic, "$")) && expression.MatchString(topic)
	}
}

// paths gives all sequences of up to depth levels, joined.
func paths(levels []string, depth int) []string {
	var out []string
	row := []string{""}
	for i := range depth {
		var next []string
		for _, path := range row {
			for _, level := range levels {
				if i == 0 {
					next = append(next, level)
				} else {
					next = append(next, path+"/"+level)
				}
			}
		}
		out = append(out, next...)
		row = next
	}
	return out
}

func valid(all []string, ok func([]byte) bool) []string {
	var out []string
	for _, s := range all {
		if ok([]byte(s)) {
			out = append(out, s)
		}
	}
	return out
}

// TestMatchAndCoversExhaustively compares Match with regular expressions and
// Covers with its definition, for all filters of three levels over a small
// alphabet. Topics have a level more than filters, and a level ("b") that no
// filter names: that is all that the rules can tell apart.
func TestMatchAndCoversExhaustively(t *testing.T) {
	topics := valid(paths([]string{"", "a", "b", "$"}, 4), ValidTopicName)
	filters := valid(paths([]string{"", "a", "$", "+", "#"}, 3), ValidTopicFilter)
	matched := make([][]bool, len(filters)) // by filter, by topic
	for i, filter := range filters {
		matched[i] = make([]bool, len(topics))
		want := matcher(filter)
		for j, topic := range topics {
			matched[i][j] = Match([]byte(filter), []byte(topic))
			if matched[i][j] != want(topic) {
				t.Errorf("Match(%q, %q) = %t", filter, topic, matched[i][j])
			}
		}
	}
	for i, allowed := range filters {
		for j, requested := range filters {
			want := subset(matched[j], matched[i])
			if got := Covers([]byte(allowed), []byte(requested)); got != want {
				t.Errorf("Covers(%q, %q) = %t", allowed, requested, got)
			}
		}
	}
	t.Logf("%d filters, %d topics", len(filters), len(topics))
}

func subset(a, b []bool) bool {
	for i := range a {
		if a[i] && !b[i] {
			return false
		}
	}
	return true
}

// TestCoversAtRandom tries deeper filters: where Covers agrees, no topic made
// from the requested filter may escape the allowed one; where it refuses, one of
// them must.
func TestCoversAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		allowed, requested := randomFilter(random), randomFilter(random)
		got := Covers([]byte(allowed), []byte(requested))
		want := true
		for _, topic := range topicsOf(requested) {
			if !matcherHolds(requested, topic) {
				t.Fatalf("%q is not a topic of %q", topic, requested)
			}
			want = want && matcherHolds(allowed, topic)
		}
		if got != want {
			t.Fatalf("Covers(%q, %q) = %t", allowed, requested, got)
		}
	}
}

func matcherHolds(filter, topic string) bool { return Match([]byte(filter), []byte(topic)) }

func randomFilter(random *rand.Rand) string {
	levels := make([]string, 1+random.IntN(6))
	for i := range levels {
		levels[i] = []string{"", "a", "a", "b", "$s", "+", "+"}[random.IntN(7)]
	}
	if random.IntN(3) == 0 {
		levels[len(levels)-1] = "#"
	}
	if len(levels) == 1 && levels[0] == "" {
		return "a"
	}
	return strings.Join(levels, "/")
}

// topicsOf gives topics that a filter matches, among them those with level names
// that no random filter has and with every number of levels that matters.
func topicsOf(filter string) []string {
	base := strings.ReplaceAll(filter, "+", "fresh")
	if base == "#" {
		return []string{"fresh", "fresh/fresh", "/", strings.Repeat("fresh/", 9)}
	}
	parent, ok := strings.CutSuffix(base, "/#")
	if !ok {
		return []string{base}
	}
	out := []string{parent + "/fresh", parent + "/", parent + strings.Repeat("/fresh", 9)}
	if parent != "" {
		out = append(out, parent)
	}
	return out
}
