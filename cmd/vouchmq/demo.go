package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/demo"
)

func newDemo() *cobra.Command {
	var withTPM bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show it all in half a minute: attested broker and clients, a refusal, an ordinary client",
		Long: `Start a broker with a simulated TEE as a process of its own, an attested subscriber and an attested publisher, and
pass messages; then a broker whose module differs in one byte, which is refused; then let an ordinary MQTT client in
over TLS. Everything happens in a temporary folder and on free ports, and is gone afterwards.

With --tpm the evidence is that of a TPM 2.0, in software (swtpm), which starts as a process of its own, and an owner elsewhere: the machine is
enrolled, the owner verifies module and PCRs, issues the certificate and signs the bundle; two clients verify the broker and pass messages; a changed
module, a machine that booted something else, and one that was never enrolled are refused.

Exit status: 0 if each step did what it says; 1 otherwise.`,
		Example: `  vouchmq demo
  vouchmq demo --tpm`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			if withTPM {
				return demo.RunTPM(c.Context(), c.OutOrStdout(), program)
			}
			return demo.Run(c.Context(), c.OutOrStdout(), program, os.Args[0])
		},
	}
	helpWithoutShorthand(c)
	c.Flags().BoolVar(&withTPM, "tpm", false, "with a TPM in software in place of the simulated TEE (Debian: swtpm, swtpm-tools)")
	return c
}
