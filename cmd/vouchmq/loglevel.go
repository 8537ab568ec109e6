package main

import (
	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/internal/admin"
)

func newLogLevel() *cobra.Command {
	var a administration
	return a.addTo(&cobra.Command{
		Use:   "log-level [LEVEL]",
		Short: "See or change what a running broker logs",
		Long: `See what a running broker logs, or change it: debug, info, warn or error. The change lasts until the broker ends or
reloads its configuration.`,
		Example: `  vouchmq log-level
  vouchmq log-level debug`,
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{"debug", "info", "warn", "error"},
		RunE: func(c *cobra.Command, args []string) error {
			client := a.client()
			defer client.Close()
			if len(args) == 1 {
				if err := client.SetLevel(c.Context(), args[0]); err != nil {
					return err
				}
			}
			level, err := client.Level(c.Context())
			if err != nil {
				return err
			}
			return a.done(c, admin.Level{Level: level}, "%s", level)
		},
	})
}
