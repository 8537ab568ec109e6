package brokertest

import (
	"strings"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// sharedNames are the words that stand for strategies of shared subscriptions.
var sharedNames = map[string]abi.SharedStrategy{
	"round-robin": abi.SharedRoundRobin, "random": abi.SharedRandom, "sticky": abi.SharedSticky,
	"hash-client": abi.SharedHashClient, "hash-topic": abi.SharedHashTopic,
}

// overflowNames are the words that stand for overflow rules.
var overflowNames = map[string]abi.Overflow{
	"drop-newest": abi.DropNewest, "drop-oldest": abi.DropOldest, "end-connection": abi.EndConnection,
}

// setOptions reads the options that a script's core is to have from the next "apply" on, or from its beginning.
func (s *Script) setOptions(w *words) error {
	o := abi.Options{CheckPayload: w.flag("check-payload"), Failure80: w.flag("failure-80")}
	if v, ok := w.value("methods"); ok {
		o.Methods = strings.Split(v, ",")
	}
	o.ResponsePrefix, _ = w.value("response-prefix")
	o.ServerReference, _ = w.value("server-reference")
	if name, ok := w.value("shared"); ok {
		if o.Shared, ok = sharedNames[name]; !ok {
			w.fail("unknown strategy %q", name)
		}
	}
	if name, ok := w.value("overflow"); ok {
		if o.Overflow, ok = overflowNames[name]; !ok {
			w.fail("unknown overflow rule %q", name)
		}
	}
	s.options = o
	return w.end()
}
