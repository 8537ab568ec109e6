package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/cafolder"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/terminal"
)

const (
	day = 24 * time.Hour
	// maxDays is the most that a person means: a time.Duration has room for three times as many, and would be another one beyond.
	maxDays = 36500
)

// inDays returns how long a number of days is that was given to a flag.
func inDays(flag string, n int) (time.Duration, error) {
	if n < 1 || n > maxDays {
		return 0, fmt.Errorf("--%s: from 1 to %d, not %d", flag, maxDays, n)
	}
	return time.Duration(n) * day, nil
}

func newCA() *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "Be the owner of a broker: verify it, issue its certificate, sign the bundle of its clients",
		Long: `Be the owner of a broker that runs on a machine of somebody else. These commands are for the owner's own machine: the
key of the owner CA stays there. The broker makes its keys in its TEE and asks for a certificate (vouchmq enroll); the
owner verifies that the request comes from a program that the policy accepts, and only then issues:

  vouchmq ca init plant-ca --service plant.example --address broker.example:8883
  vouchmq ca challenge plant-ca
  vouchmq ca sign request.pem --ca plant-ca --policy broker-policy.yaml --identity broker --out cert.pem --bundle plant.bundle

Clients get certificates from the same CA where the broker wants to know them:

  vouchmq ca client pump-7 --ca plant-ca --out pump-7.pem --key pump-7.key

All of it, with the broker's side, is in docs/provisioning.md.`,
	}
	helpWithoutShorthand(c)
	c.AddCommand(newCAInit(), newCAChallenge(), newCASign(), newCABundle(), newCAShow(), newCAForget(), newCAClient(), newCARevoke())
	return c
}

func newCAInit() *cobra.Command {
	var f cafolder.Founding
	var days int
	var succeeds string
	var p passphraseFlags
	c := &cobra.Command{
		Use:   "init DIR --service NAME",
		Short: "Make an owner CA for a service",
		Long: `Make a folder with an owner CA for one service. The key gets a passphrase, which is asked for, or read from a file; its
file is then in the age format, and can also be opened with age. Nothing is overwritten.

owner-ca.pem in the folder is what the broker's configuration names as its owner. All else stays on this machine.

With --succeeds the new CA is to take the place of another one: the next bundle of that folder announces it, and clients
trust both from then on.`,
		Example: `  vouchmq ca init plant-ca --service plant.example --address broker.example:8883
  vouchmq ca init plant-ca-2 --succeeds plant-ca --passphrase-file /run/secrets/ca`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if f.Validity, err = inDays("days", days); err != nil {
				return err
			}
			return caInit(c, args[0], f, succeeds, &p)
		},
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.StringVar(&f.Service, "service", "", "name of the service, as in the broker's configuration")
	fs.StringArrayVar(&f.Addresses, "address", nil, "host:port by which clients reach the broker; more than once for several")
	fs.StringArrayVar(&f.Names, "name", nil, "further host name or IP address for the broker's certificate; more than once for several")
	fs.IntVar(&days, "days", 3650, "how long the CA is good")
	fs.StringVar(&succeeds, "succeeds", "", "folder of the owner CA that this one is to follow")
	p.define(c)
	fs.BoolVar(&p.none, "no-passphrase", false, "leave the key open: whoever reads the file can issue certificates")
	c.MarkFlagsMutuallyExclusive("passphrase-file", "no-passphrase")
	c.MarkFlagsOneRequired("service", "succeeds")
	for _, other := range []string{"service", "address", "name"} {
		c.MarkFlagsMutuallyExclusive("succeeds", other)
	}
	return c
}

func caInit(c *cobra.Command, dir string, f cafolder.Founding, succeeds string, p *passphraseFlags) (err error) {
	if succeeds != "" {
		if f.Succeeds, err = cafolder.Open(succeeds); err != nil {
			return err
		}
	}
	if err := f.Check(dir); err != nil { // nobody types a passphrase for nothing
		return err
	}
	if f.Passphrase, err = p.fresh(c); err != nil {
		return err
	}
	folder, err := cafolder.Init(dir, f, time.Now())
	if err != nil {
		return err
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "made the owner CA of %s in %s, good until %s\n\n", folder.Ledger.Service, dir, folder.Certificate.NotAfter.Format(time.DateOnly))
	if err := terminal.Facts(w, "fingerprint", owner.Fingerprint(folder.Certificate).String(), "key", keyInWords(folder)); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nGive %s/%s to the broker: its configuration names it as owner.\n", dir, cafolder.CertificateFile)
	if succeeds != "" {
		fmt.Fprintf(w, "Announce this CA to clients: vouchmq ca bundle %s --policy FILE --identity NAME --out FILE\n", succeeds)
	}
	return nil
}

func keyInWords(f *cafolder.Folder) string {
	if f.Sealed() {
		return cafolder.SealedKeyFile + ", under the passphrase"
	}
	return cafolder.KeyFile + ", WITHOUT PASSPHRASE: whoever reads it can issue certificates"
}

func newCAChallenge() *cobra.Command {
	var hours int
	c := &cobra.Command{
		Use:   "challenge DIR",
		Short: "Give out a nonce that the broker's request must answer",
		Long: `Print a nonce for vouchmq enroll --nonce. One request can answer it, within the hours given: it shows that its evidence
was made after this moment. The nonce is no secret. The renewal of a certificate needs none.`,
		Example: `  vouchmq ca challenge plant-ca`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if hours < 1 || hours > 24*maxDays {
				return fmt.Errorf("--hours: from 1 to %d, not %d", 24*maxDays, hours)
			}
			folder, err := cafolder.Open(args[0])
			if err != nil {
				return err
			}
			now := time.Now()
			nonce, err := folder.Challenge(rand.Reader, now, now.Add(time.Duration(hours)*time.Hour))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), nonce)
			return err
		},
	}
	helpWithoutShorthand(c)
	c.Flags().IntVar(&hours, "hours", 24, "how long a request may answer it")
	return c
}

func newCAForget() *cobra.Command {
	var last bool
	c := &cobra.Command{
		Use:   "forget DIR HARDWARE",
		Short: "Take enrolled hardware out of the next bundle",
		Long: `Take hardware, as vouchmq ca show names it, out of what was enrolled with vouchmq ca sign --enroll. Clients refuse it once
they have the next bundle, and its requests are refused at once. Where none is enrolled any hardware is accepted, that one too: so
the last is not taken out before another is enrolled, unless --accept-any says that this is meant.`,
		Example: `  vouchmq ca forget plant-ca sim:00112233445566778899aabbccddeeff`,
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			folder, err := cafolder.Open(args[0])
			if err != nil {
				return err
			}
			was, err := folder.Forget(args[1], last)
			switch {
			case errors.Is(err, cafolder.ErrLast):
				return withHint(fmt.Errorf("%q: %w", args[1], err), "enrol another first (vouchmq ca sign --enroll), or say --accept-any")
			case err == nil && !was:
				return withHint(fmt.Errorf("%q is not enrolled", args[1]), "see: vouchmq ca show "+args[0])
			}
			return err
		},
	}
	helpWithoutShorthand(c)
	c.Flags().BoolVar(&last, "accept-any", false, "take out the last, too: from then on any hardware is accepted")
	return c
}
