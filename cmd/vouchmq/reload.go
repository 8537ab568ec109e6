package main

import (
	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/internal/admin"
)

func newReload() *cobra.Command {
	var a administration
	return a.addTo(&cobra.Command{
		Use:   "reload",
		Short: "Have a running broker read its configuration anew",
		Long: `Have a running broker read its configuration file anew, and what that names: policy, certificates, passwords. Connections
stay, but those of clients that the new policy or revocation list does not accept, or that do not look at changed evidence
in time. If anything is wrong with it the old configuration stays in force, and this command says what is wrong.
SIGHUP does the same, and says so in the log only.`,
		Example: `  vouchmq reload`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client := a.client()
			defer client.Close()
			if err := client.Reload(c.Context()); err != nil {
				return err
			}
			return a.done(c, admin.Reloaded{Reloaded: true}, "reloaded")
		},
	})
}
