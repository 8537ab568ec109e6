package main

import (
	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/internal/admin"
)

func newUnlock() *cobra.Command {
	var a administration
	return a.addTo(&cobra.Command{
		Use:   "unlock ADDRESS",
		Short: "Let an address in again that has been locked out for failed logins",
		Long: `Let an IP address in again that a running broker has locked out for failed logins. Its failures count from 0 again. An
IPv6 address stands for all of its /64. To keep an address from being locked out, put it into guard.exempt of the
configuration.`,
		Example: `  vouchmq unlock 203.0.113.7`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			client := a.client()
			defer client.Close()
			if err := client.Unlock(c.Context(), args[0]); err != nil {
				return err
			}
			return a.done(c, admin.Done{Count: 1}, "unlocked %s", args[0])
		},
	})
}
