package brokertest

import (
	"fmt"

	"github.com/vouchmq/vouchmq/internal/abi"
)

var overflowNames = map[string]abi.Overflow{
	"drop-newest": abi.DropNewest, "drop-oldest": abi.DropOldest, "end-connection": abi.EndConnection,
}

// setOptions reads the options that a script's core is to have from the next "apply" on, or from its beginning.
func (s *Script) setOptions(w *words) error {
	s.options = abi.Options{CheckPayload: w.flag("check-payload"), Failure80: w.flag("failure80")}
	if name, ok := w.value("overflow"); ok {
		if s.options.Overflow, ok = overflowNames[name]; !ok {
			return fmt.Errorf("unknown overflow rule %q", name)
		}
	}
	return w.end()
}
