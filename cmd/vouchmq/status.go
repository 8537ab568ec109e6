package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/terminal"
	"github.com/vouchmq/vouchmq/internal/admin"
)

func newStatus() *cobra.Command {
	var a administration
	return a.addTo(&cobra.Command{
		Use:   "status",
		Short: "See how a running broker is doing",
		Long: `Ask a running broker on this machine how it is doing: listeners, clients, messages, what was refused, memory, and
what its evidence claims.`,
		Example: `  vouchmq status
  vouchmq status --socket /run/vouchmq/admin.sock --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client := a.client()
			defer client.Close()
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			if a.asJSON {
				return printJSON(c.OutOrStdout(), s)
			}
			return writeStatus(c.OutOrStdout(), &s)
		},
	})
}

func writeStatus(w io.Writer, s *admin.Status) error {
	pairs := []string{
		"state", s.State + ", for " + (time.Duration(s.Uptime) * time.Second).String(), "version", s.Build.Version,
		"engine", s.Build.Engine, "TEE", teeInWords(&s.Build),
		"module", s.Build.Module, "config", s.Build.Config, "runtime", s.Build.Runtime,
	}
	for _, l := range s.Listeners {
		pairs = append(pairs, "listener", l.Name+": "+l.Kind+" "+l.Address)
	}
	return terminal.Facts(w, append(pairs, figures(s)...)...)
}

func figures(s *admin.Status) []string {
	return []string{
		"connections", fmt.Sprintf("%d now, %d came, %d too many", s.Connections, s.Accepted, s.ConnectionsRejected),
		"handshakes", fmt.Sprintf("%d now, %d failed", s.Handshakes, s.HandshakesFailed),
		"sessions", fmt.Sprintf("%d, %d connected", s.Sessions, s.SessionsConnected),
		"subscriptions", fmt.Sprintf("%d, %d shared", s.Subscriptions, s.SharedSubscriptions),
		"retained", fmt.Sprintf("%d, %d bytes", s.Retained, s.RetainedBytes),
		"messages", fmt.Sprintf("%d received, %d sent, %d dropped, %d expired", s.Received, s.Sent, s.Dropped, s.Expired),
		"waiting", fmt.Sprintf("%d, %d of them sent and not acknowledged", s.Queued, s.Inflight),
		"refused", fmt.Sprintf("%d connects, %d requests by the rules, %d for breaking the protocol", s.ConnectsRefused, s.Denied, s.ProtocolErrors),
		"limits met", counts(s.LimitsMet), "guard", counts(s.Guard),
		"memory", fmt.Sprintf("%d bytes of tables, %d of them messages; module %d", s.CoreMemory, s.StoredBytes, s.ModuleMemory),
		"core", fmt.Sprintf("%d restarts, longest step %v", s.Restarts, s.LongestStep.Round(time.Microsecond)),
	}
}

func teeInWords(b *admin.Build) string {
	if b.Simulated {
		return b.TEE + " (SIMULATED: it protects nothing)"
	}
	return b.TEE
}

// counts are those that are not 0.
func counts(m map[string]uint64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] == 0 {
			continue
		}
		all = append(all, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(all, ", ")
}
