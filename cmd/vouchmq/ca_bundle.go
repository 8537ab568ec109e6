package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/cafolder"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/terminal"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
)

func newCABundle() *cobra.Command {
	var policy policyFlags
	var terms termsFlags
	var pass passphraseFlags
	var out string
	c := &cobra.Command{
		Use:   "bundle DIR --policy FILE --identity NAME --out FILE",
		Short: "Sign a new bundle without issuing a certificate",
		Long: `Sign a bundle with the next serial number, after the policy, the addresses, the enrolled hardware or the announced CA have
changed. The broker's ECH key is that of the bundle before.`,
		Example: `  vouchmq ca bundle plant-ca --policy broker-policy.yaml --identity broker --out plant.bundle`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return caBundle(c, args[0], &policy, &terms, &pass, out)
		},
	}
	helpWithoutShorthand(c)
	policy.define(c)
	c.Flags().StringVar(&out, "out", "", "file for the bundle")
	terms.define(c.Flags())
	pass.define(c)
	c.MarkFlagRequired("out")
	return c
}

func caBundle(c *cobra.Command, dir string, policy *policyFlags, terms *termsFlags, pass *passphraseFlags, out string) error {
	now := time.Now()
	t, err := terms.terms(now)
	if err != nil {
		return err
	}
	folder, err := cafolder.Open(dir)
	if err != nil {
		return err
	}
	p, err := policy.read()
	if err != nil {
		return err
	}
	ca, err := pass.unlock(c, folder)
	if err != nil {
		return err
	}
	b, file, err := folder.Bundle(ca, p, policy.identity, t, now)
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(out, file, atomicfile.Public); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: serial number %d%s\n", out, b.Serial, until(b))
	return err
}

func newCAShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show DIR",
		Short: "See what was issued and enrolled",
		Long: `Print what the folder of an owner remembers: the CA, certificates that were issued, hardware that was enrolled, nonces that
wait for a request, the last bundle. The key is not touched.`,
		Example: `  vouchmq ca show plant-ca
  vouchmq ca show plant-ca --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			folder, err := cafolder.Open(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), folder.Ledger)
			}
			return terminal.Facts(c.OutOrStdout(), caFacts(folder, time.Now())...)
		},
	}
	helpWithoutShorthand(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the ledger as JSON")
	return c
}

func caFacts(f *cafolder.Folder, now time.Time) []string {
	l := &f.Ledger
	facts := []string{
		"service", l.Service, "fingerprint", owner.Fingerprint(f.Certificate).String(),
		"CA", "good until " + f.Certificate.NotAfter.Format(time.DateOnly), "key", keyInWords(f),
		"addresses", strings.Join(l.Addresses, " "), "names", strings.Join(l.Names, " "),
		"last bundle", fmt.Sprintf("serial number %d", l.Serial),
	}
	if next, err := cafolder.ParseCA(l.NextCA); err == nil && next != nil {
		facts = append(facts, "next CA", owner.Fingerprint(next).String())
	}
	for _, hardware := range l.Instances {
		facts = append(facts, "enrolled", hardware)
	}
	for _, challenge := range l.Challenges {
		if now.Before(challenge.Until) {
			facts = append(facts, "nonce", challenge.Nonce+", until "+challenge.Until.Format(time.RFC3339))
		}
	}
	for _, r := range l.Issued {
		facts = append(facts, "certificate", fmt.Sprintf("%s, %s to %s%s, %s", r.Serial, r.At.Format(time.DateOnly), r.NotAfter.Format(time.DateOnly), map[bool]string{true: ", renewed"}[r.Renewed], r.Hardware))
	}
	for _, r := range l.Clients {
		revoked := ""
		if r.Revoked != nil {
			revoked = ", REVOKED " + r.Revoked.Format(time.DateOnly)
		}
		facts = append(facts, "client", fmt.Sprintf("%s, %s to %s, %s%s", r.Name, r.At.Format(time.DateOnly), r.NotAfter.Format(time.DateOnly), r.Serial, revoked))
	}
	return facts
}
