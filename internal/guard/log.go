package guard

import (
	"net/netip"
	"strconv"
	"strings"
)

// maxLogged bounds what a log line repeats of a client's words, in bytes.
const maxLogged = 64

// logFailure writes the line that fail2ban reads. The address stands before all that the client chose, and the
// handlers of log/slog quote the rest, so nobody can write an address for somebody else.
func (g *Guard) logFailure(f *Failure) {
	g.log.Warn("login failed", "address", addressText(f.Address), "listener", f.Listener,
		"user", g.redact(f.User), "client_id", g.redact(f.ClientID), "reason", f.Reason)
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return "local"
	}
	return a.Unmap().WithZone("").String()
}

// Bounded makes a client's words fit for a log line: cut after 64 bytes, and whatever is not printable escaped.
func Bounded(s string) string {
	tail := ""
	if len(s) > maxLogged {
		s, tail = s[:maxLogged], "..."
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + tail
}
