package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/terminal"
	"github.com/vouchmq/vouchmq/internal/admin"
)

func newClients() *cobra.Command {
	c := newClientsList()
	c.Use, c.Short = "clients", "See the clients of a running broker, disconnect or forget them"
	c.AddCommand(newClientsList(), newClientsShow(), newClientsDisconnect(), newClientsForget())
	return c
}

func newClientsList() *cobra.Command {
	var a administration
	var f admin.ClientsFilter
	c := a.addTo(&cobra.Command{
		Use:   "list",
		Short: "List clients, connected or not",
		Long: `List the clients that a running broker knows: those that are connected, and those whose session outlives their
connection.`,
		Example: `  vouchmq clients list
  vouchmq clients list --state offline --name 'pump-*'
  vouchmq clients list --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client := a.client()
			defer client.Close()
			heads := []string{"CLIENT", "CONNECTED", "USER", "IDENTITY", "MQTT", "SUBSCRIPTIONS", "QUEUED", "INFLIGHT", "ADDRESS"}
			return list(&a, c.OutOrStdout(), client.Clients(c.Context(), f), heads, clientRow)
		},
	})
	c.Flags().StringVar(&f.State, "state", "", "only those that are: connected or offline")
	c.Flags().StringVar(&f.Name, "name", "", "only those whose client id fits: * stands for any characters, ? for one")
	c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{admin.StateConnected, admin.StateOffline}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func clientRow(s admin.Session) []string {
	address := ""
	if s.Connection != nil {
		address = s.Connection.Address
	}
	return []string{
		s.ClientID, yesNo(s.Connected), s.User, s.Identity, s.Protocol, number(s.Subscriptions), number(s.Queued), number(s.Inflight), address,
	}
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// shownClient is what `vouchmq clients show --json` prints.
type shownClient struct {
	admin.Session
	Filters []admin.Subscription `json:"subscription_list"`
}

func newClientsShow() *cobra.Command {
	var a administration
	return a.addTo(&cobra.Command{
		Use:               "show ID",
		Short:             "Show all that is known of a client",
		Long:              `Show the session of a client, its connection, and its subscriptions.`,
		Example:           `  vouchmq clients show pump-7`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeClients,
		RunE: func(c *cobra.Command, args []string) error {
			client := a.client()
			defer client.Close()
			s := shownClient{Filters: []admin.Subscription{}}
			var err error
			if s.Session, err = client.Client(c.Context(), args[0]); err != nil {
				return err
			}
			for f, err := range client.Subscriptions(c.Context(), args[0], "") {
				if err != nil {
					return err
				}
				s.Filters = append(s.Filters, f)
			}
			if a.asJSON {
				return printJSON(c.OutOrStdout(), s)
			}
			return writeClient(c.OutOrStdout(), &s)
		},
	})
}

func writeClient(w io.Writer, s *shownClient) error {
	pairs := []string{
		"client", s.ClientID, "user", s.User, "identity", s.Identity, "MQTT", s.Protocol, "connected", yesNo(s.Connected),
		"keep-alive", fmt.Sprintf("%d s", s.KeepAlive), "session", expiry(&s.Session),
		"queued", fmt.Sprintf("%d messages, %d bytes", s.Queued, s.QueuedBytes),
		"in flight", fmt.Sprintf("%d to the client, %d from it", s.Inflight, s.Received), "will", yesNo(s.Will),
	}
	if c := s.Connection; c != nil {
		pairs = append(pairs, "listener", c.Listener, "address", c.Address, "since", c.Since.Format(time.RFC3339),
			"received", fmt.Sprintf("%d packets, %d bytes", c.PacketsIn, c.BytesIn),
			"sent", fmt.Sprintf("%d packets, %d bytes, %d still to write", c.PacketsOut, c.BytesOut, c.Backlog),
			"reads", yesNo(!c.Stalled))
	}
	for _, f := range s.Filters {
		pairs = append(pairs, "subscription", fmt.Sprintf("%s, QoS %d", f.Filter, f.QoS))
	}
	return terminal.Facts(w, pairs...)
}

func expiry(s *admin.Session) string {
	switch {
	case number(s.Expiry) == forEver:
		return "for ever"
	case !s.Connected:
		return fmt.Sprintf("%d s are left of %d", s.ExpiresIn, s.Expiry)
	}
	return fmt.Sprintf("%d s longer than the connection", s.Expiry)
}

func newClientsDisconnect() *cobra.Command {
	var a administration
	var reason string
	c := a.addTo(&cobra.Command{
		Use:   "disconnect ID",
		Short: "End the connection of a client; its session stays",
		Long: `End the connection of a client. Its session stays as long as it was to outlive the connection, and the client may
come back: to keep it out, change the policy. With the reasons 0x9c and 0x9d the broker names the server to use
instead, if one is configured.`,
		Example: `  vouchmq clients disconnect pump-7
  vouchmq clients disconnect pump-7 --reason 0x9c`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeClients,
		RunE: func(c *cobra.Command, args []string) error {
			code, err := strconv.ParseUint(reason, 0, 8)
			if err != nil {
				return fmt.Errorf("--reason %q is not a reason code of MQTT 5, such as 0x98", reason)
			}
			client := a.client()
			defer client.Close()
			if err := client.Disconnect(c.Context(), admin.DisconnectRequest{ClientID: args[0], Reason: uint8(code)}); err != nil {
				return err
			}
			return a.done(c, admin.Done{Count: 1}, "disconnected %s", terminal.Text(args[0]))
		},
	})
	c.Flags().StringVar(&reason, "reason", "0x98", "reason code of MQTT 5 to give; 0x98 is administrative action")
	return c
}

func newClientsForget() *cobra.Command {
	var a administration
	return a.addTo(&cobra.Command{
		Use:   "forget ID",
		Short: "End the session of a client, and its connection",
		Long: `End the session of a client, with its subscriptions and all messages that wait for it, and its connection if it has
one.`,
		Example:           `  vouchmq clients forget pump-7`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeClients,
		RunE: func(c *cobra.Command, args []string) error {
			client := a.client()
			defer client.Close()
			if err := client.Forget(c.Context(), args[0]); err != nil {
				return err
			}
			return a.done(c, admin.Done{Count: 1}, "forgot %s", terminal.Text(args[0]))
		},
	})
}

// maxCompletions bounds what a shell is given to choose from.
const maxCompletions = 100

// completeClients gives client ids that begin as what was typed, but for those that a terminal should not see.
func (a *administration) completeClients(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	client := a.client()
	defer client.Close()
	for s, err := range client.Clients(c.Context(), admin.ClientsFilter{Name: typed + "*"}) {
		if err != nil || len(ids) == maxCompletions {
			break
		}
		if terminal.Text(s.ClientID) == s.ClientID {
			ids = append(ids, s.ClientID)
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
