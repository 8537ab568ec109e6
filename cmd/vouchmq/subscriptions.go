package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/internal/admin"
)

func newSubscriptions() *cobra.Command {
	var a administration
	var of, filter string
	c := a.addTo(&cobra.Command{
		Use:   "subscriptions",
		Short: "List the subscriptions that a running broker holds",
		Long:  `List subscriptions: of all clients, or of one.`,
		Example: `  vouchmq subscriptions
  vouchmq subscriptions --client pump-7
  vouchmq subscriptions --filter 'sensors/*' --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client := a.client()
			defer client.Close()
			heads := []string{"CLIENT", "FILTER", "QOS", "NO-LOCAL", "AS-PUBLISHED", "RETAIN-HANDLING", "IDENTIFIER"}
			return list(&a, c.OutOrStdout(), client.Subscriptions(c.Context(), of, filter), heads, subscriptionRow)
		},
	})
	c.Flags().StringVar(&of, "client", "", "only those of the client with this id")
	c.Flags().StringVar(&filter, "filter", "", "only those whose filter, as text, fits: * stands for any characters, ? for one")
	c.RegisterFlagCompletionFunc("client", func(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.completeClients(c, nil, typed)
	})
	return c
}

func subscriptionRow(s admin.Subscription) []string {
	identifier := ""
	if s.Identifier != 0 {
		identifier = number(s.Identifier)
	}
	return []string{
		s.ClientID, s.Filter, strconv.Itoa(int(s.QoS)), yesNo(s.NoLocal), yesNo(s.RetainAsPublished), strconv.Itoa(int(s.RetainHandling)), identifier,
	}
}
