package brokertest_test

import (
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/broker"
	"github.com/vouchmq/vouchmq/internal/brokertest"
)

// begin is how the scripts of these tests begin: two clients, one of which gets what is published to t.
const begin = `client a: connect v5 clean-start
expect a: connack success
client b: connect v5 clean-start
expect b: connack success
client b: subscribe 1 t qos1
expect b: suback 1 granted1
`

// TestScriptsAreStrict runs scripts that must fail, each with the beginning of its error.
func TestScriptsAreStrict(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"passes", "client a: publish t payload=x\nexpect b: publish t payload=x", ""},
		{"id may be left out", "client a: publish t qos1 id=5\nexpect b: publish t qos1\nexpect a: puback 5\nclient b: puback last", ""},
		{"comments", "# one\nclient a: ping  # two\nexpect a: pingresp", ""},
		{"not expected, at the next line", "client a: publish t\nclient a: ping", "x.txt:8: b has received 1 items that were not expected"},
		{"not expected, at the end", "client a: publish t", "x.txt:7: at the end: b has received"},
		{"not expected, by a client that was lost", "together\nclient a: publish t\nclient b: lost\nend", "x.txt:10: at the end: b has received"},
		{"nothing came", "expect a: pingresp", "x.txt:7: a has received nothing"},
		{"another packet", "client a: ping\nexpect a: puback 1", `x.txt:8: a has received "pingresp"`},
		{"another payload", "client a: publish t payload=x\nexpect b: publish t payload=y", "x.txt:8: b has received"},
		{"another id", "client a: publish t qos1 id=5\nexpect b: publish t qos1 id=2", "x.txt:8: b has received"},
		{"a property too many", "client a: publish t user=a:b\nexpect b: publish t", "x.txt:8: b has received"},
		{"a property too few", "client a: publish t\nexpect b: publish t user=a:b", "x.txt:8: b has received"},
		{"the order of user properties", "client a: publish t user=a:b user=c:d\nexpect b: publish t user=c:d user=a:b", "x.txt:8: b has received"},
		{"the order of reasons", "client a: subscribe 2 x y qos1\nexpect a: suback 2 granted1 granted0", "x.txt:8: a has received"},
		{"the order of packets", "together\nclient a: publish t payload=1\nclient a: publish t payload=2\nend\nexpect b: publish t payload=2", "x.txt:11: b has received"},
		{"unknown line", "publish t", "x.txt:7: unknown word"},
		{"unknown packet", "client a: publsh t", "x.txt:7: unknown packet"},
		{"unknown word", "client a: publish t retian", "x.txt:7: unknown words"},
		{"unknown limit", "limits max-fun=1", "x.txt:7: unknown words"},
		{"unknown strategy", "options shared=luck", "x.txt:7: unknown strategy"},
		{"unknown option", "options fun=1", "x.txt:7: unknown words"},
		{"unknown client", "client c: ping", "x.txt:7: c is not connected"},
		{"unknown event", "host a: tickled", "x.txt:7: unknown event"},
		{"unknown note", "expect note joy a", "x.txt:7: unknown note"},
		{"no such note", "expect note dropped a", "x.txt:7: no such note"},
		{"another statistic", "expect stats sessions=3", "x.txt:7: sessions is 2"},
		{"unknown statistic", "expect stats fun=3", "x.txt:7: unknown words"},
		{"back in time", "at 5s\nat 4s", "x.txt:8: it is 5s already"},
		{"in a repetition", "repeat 1..3\nclient a: ping\nend repeat", "x.txt:8: a has received 1 items"},
		{"repetition without end", "repeat 1..3\nclient a: ping", "x.txt:7: no range"},
		{"a reason string may be left out", "client a: raw 00 00\nexpect a: disconnect malformed-packet\nexpect a: closed", ""},
		{"unless it is exactly so", "client a: raw 00 00\nexpect a: disconnect malformed-packet exactly", "x.txt:8: a has received"},
		{"another reason string", "client a: raw 00 00\nexpect a: disconnect malformed-packet reason-string=x", "x.txt:8: a has received"},
		{"no answer", "expect host: answer 1 count=0", "x.txt:7: the core has answered nothing"},
		{"another answer", "host: ask 1 session text=z\nexpect host: answer 1 count=1", `x.txt:8: the core has answered "answer 1 count=0"`},
		{"an answer that is not expected", "host: ask 1 session text=a", "x.txt:7: at the end: the core has answered what was not expected"},
		{"unknown question", "host: ask 1 weather", "x.txt:7: unknown question"},
		{"unknown word of the host", "host: sing", "x.txt:7: unknown word"},
		{"unknown option", "options joy", "x.txt:7: unknown words"},
		{"authentication is to be expected", "client c: open authenticate v5\nclient c: connect v5", "x.txt:8: at the end: c has received 1 items"},
		{"another note of a subscription", "client a: subscribe 2 u\nexpect a: suback 2 granted0\nexpect note subscribed a u 1", "x.txt:9: no such note"},
		{"end of nothing", "end", "x.txt:7: end of nothing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := brokertest.RunScript(broker.New(), "x.txt", begin+test.script, brokertest.ScriptLimits)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
				t.Errorf("the error is %v, not %s", err, test.want)
			}
		})
	}
}
