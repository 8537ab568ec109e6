package main

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/show"
)

func newInspect() *cobra.Command {
	var bundlePath, savePath string
	var asJSON bool
	var asking askFlags
	c := &cobra.Command{
		Use:   "inspect [HOST:PORT] --bundle FILE",
		Short: "See who runs there: platform, code, configuration, and the verdict of your bundle",
		Long: `Connect to a broker, have it attest, and print what was verified: platform, digests of module, configuration and
runtime, TCB status, and whether the policy of the bundle accepts it, and why not. Nothing is sent to the broker.
Without HOST:PORT the addresses of the bundle are tried.
--save keeps the evidence, accepted or refused, in a new file, which vouchmq verify explains.

Exit status: 0 accepted; 1 wrong usage or another error; 2 nobody answers; 3 refused.`,
		Example: `  vouchmq inspect --bundle plant.bundle
  vouchmq inspect broker.example:8883 --bundle plant.bundle --json
  vouchmq inspect --bundle plant.bundle --save evidence.cbor`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return inspect(c, args, bundlePath, savePath, &asking, asJSON)
		},
	}
	helpWithoutShorthand(c)
	c.Flags().StringVar(&bundlePath, "bundle", "", "the bundle to judge by")
	c.Flags().StringVar(&savePath, "save", "", "new file to keep the broker's evidence in, for vouchmq verify")
	asking.register(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.MarkFlagRequired("bundle")
	return c
}

func inspect(c *cobra.Command, args []string, bundlePath, savePath string, asking *askFlags, asJSON bool) error {
	bundle, err := client.ReadBundle(bundlePath)
	if err != nil {
		return withHint(err, "ask the owner of the broker for a bundle; vouchmq serve writes one for a broker of your own")
	}
	var options client.Options
	if len(args) == 1 {
		if _, _, err := net.SplitHostPort(args[0]); err != nil {
			return fmt.Errorf("%q is not HOST:PORT", args[0])
		}
		options.Address = args[0]
	}
	if err := asking.apply(&options); err != nil {
		return err
	}
	report, err := client.Inspect(c.Context(), bundle, options)
	if err != nil {
		return err
	}
	if c.Context().Err() != nil { // there is no verdict of what was not waited for
		return context.Cause(c.Context())
	}
	if report.Certificate != nil {
		asking.noteUnused(c.ErrOrStderr(), report.CertificateAsked)
	}
	s := show.OfReport(report)
	if asJSON {
		err = printJSON(c.OutOrStdout(), s)
	} else {
		err = s.Write(c.OutOrStdout())
	}
	if err != nil {
		return err
	}
	if err := saveEvidence(savePath, report); err != nil {
		return err
	}
	return report.Verdict.Err
}

// saveEvidence keeps the evidence in a file, if one is named and there is any; the verdict says why there is none.
func saveEvidence(path string, r *client.Report) error {
	if path == "" || len(r.Evidence) == 0 {
		return nil
	}
	if err := writeNew(path, r.Evidence); err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	return nil
}
