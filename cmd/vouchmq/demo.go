package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/demo"
)

func newDemo() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show it all in half a minute: attested broker and clients, a refusal, an ordinary client",
		Long: `Start a broker with a simulated TEE as a process of its own, an attested subscriber and an attested publisher, and
pass messages; then a broker whose module differs in one byte, which is refused; then let an ordinary MQTT client in
over TLS. Everything happens in a temporary folder and on free ports, and is gone afterwards.

Exit status: 0 if each step did what it says; 1 otherwise.`,
		Example: `  vouchmq demo`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			return demo.Run(c.Context(), c.OutOrStdout(), program)
		},
	}
	helpWithoutShorthand(c)
	return c
}
