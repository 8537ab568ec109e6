package main

import (
	"crypto"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/cafolder"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
)

type caClientFlags struct {
	folder, request, out, key string
	days                      int
	passphrase                passphraseFlags
}

func newCAClient() *cobra.Command {
	var f caClientFlags
	c := &cobra.Command{
		Use:   "client NAME --ca DIR --out FILE (--key FILE | --request FILE)",
		Short: "Issue a certificate to a client",
		Long: `Issue a certificate by which a broker knows a client: NAME is its user name, as rules of the policy say it. With --key a key
is made, too; with --request the client has made its own, and sends a certificate request (PKCS #10, as openssl req makes
it), whose key is taken and whose common name, if it has one, must be NAME. No file is overwritten.

A broker asks for such certificates where a listener has client_certificates: { ca: owner-ca.pem }, with the same owner-ca.pem
as its owner. With reveal: authenticated, too, it shows its evidence to nobody else.`,
		Example: `  vouchmq ca client pump-7 --ca plant-ca --out pump-7.pem --key pump-7.key
  vouchmq ca client pump-7 --ca plant-ca --out pump-7.pem --request pump-7.csr --days 30
  vouchmq sub --bundle plant.bundle --cert pump-7.pem --key pump-7.key -t 'plant/#'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.folder, "ca", "", "folder that vouchmq ca init made")
	fs.StringVar(&f.out, "out", "", "file for the certificate")
	fs.StringVar(&f.key, "key", "", "file for the key that is made for the client")
	fs.StringVar(&f.request, "request", "", "certificate request of a client that has made its key itself")
	fs.IntVar(&f.days, "days", 365, "how long the certificate is good")
	f.passphrase.define(c)
	c.MarkFlagRequired("ca")
	c.MarkFlagRequired("out")
	c.MarkFlagsMutuallyExclusive("key", "request")
	c.MarkFlagsOneRequired("key", "request")
	return c
}

func (f *caClientFlags) run(c *cobra.Command, name string) error {
	validity, err := inDays("days", f.days)
	if err != nil {
		return err
	}
	if err := errors.Join(owner.CheckClientName(name), f.free()); err != nil {
		return err
	}
	folder, err := cafolder.Open(f.folder)
	if err != nil {
		return err
	}
	public, keyFile, err := f.clientKey(name)
	if err != nil {
		return err
	}
	ca, err := f.passphrase.unlock(c, folder)
	if err != nil {
		return err
	}
	if keyFile != nil { // before there is a certificate for a key that cannot be written
		if err := atomicfile.Create(f.key, keyFile, atomicfile.Secret); err != nil {
			return err
		}
	}
	leaf, err := folder.IssueClient(ca, public, name, validity, time.Now())
	if err != nil {
		if keyFile != nil {
			_ = os.Remove(f.key)
		}
		return err
	}
	if err := atomicfile.Create(f.out, owner.EncodeCertificate(leaf.Raw), atomicfile.Public); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: certificate of %s, good until %s\n", f.out, name, leaf.NotAfter.Format(time.DateOnly))
	return err
}

// free returns an error if something stands where a file is to be, before anything is issued.
func (f *caClientFlags) free() error {
	for _, path := range []string{f.out, f.key} {
		if _, err := os.Lstat(path); path != "" && err == nil {
			return fmt.Errorf("%s exists, and is not overwritten", path)
		}
	}
	return nil
}

// clientKey makes a key, and returns its file; or reads the request.
func (f *caClientFlags) clientKey(name string) (crypto.PublicKey, []byte, error) {
	if f.request == "" {
		key, err := owner.NewKey()
		if err != nil {
			return nil, nil, err
		}
		file, err := owner.EncodeKey(key)
		return &key.PublicKey, file, err
	}
	text, err := readFile(f.request)
	if err != nil {
		return nil, nil, fmt.Errorf("--request: %w", err)
	}
	public, err := cafolder.ParseClientRequest(text, name)
	if err != nil {
		return nil, nil, fmt.Errorf("--request %s: %w", f.request, err)
	}
	return public, nil, nil
}

func newCARevoke() *cobra.Command {
	var dir, out string
	var days int
	var pass passphraseFlags
	c := &cobra.Command{
		Use:   "revoke [NAME]... --ca DIR --crl FILE",
		Short: "Revoke certificates of clients, and sign the revocation list",
		Long: `Revoke all certificates of clients with these names, or single ones by their serial numbers (see vouchmq ca show), and sign a
revocation list. Without a name the list is only made anew: do so before it ends, for past that time a broker lets nobody
in. A broker that is to obey has the list in client_certificates.crl, and reads it when it changes.`,
		Example: `  vouchmq ca revoke pump-7 --ca plant-ca --crl clients.crl
  vouchmq ca revoke --ca plant-ca --crl clients.crl --days 30`,
		RunE: func(c *cobra.Command, args []string) error { return caRevoke(c, args, dir, out, days, &pass) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&dir, "ca", "", "folder that vouchmq ca init made")
	fs.StringVar(&out, "crl", "", "file for the revocation list; an older one is replaced")
	fs.IntVar(&days, "days", 90, "how long the list is good")
	pass.define(c)
	c.MarkFlagRequired("ca")
	c.MarkFlagRequired("crl")
	return c
}

func caRevoke(c *cobra.Command, names []string, dir, out string, days int, pass *passphraseFlags) error {
	good, err := inDays("days", days)
	if err != nil {
		return err
	}
	folder, err := cafolder.Open(dir)
	if err != nil {
		return err
	}
	now, revoked := time.Now(), 0
	for _, name := range names {
		n := folder.RevokeClient(name, now)
		if n == 0 {
			return withHint(fmt.Errorf("%q has no certificate of this CA that could be revoked", name), "see: vouchmq ca show "+dir)
		}
		revoked += n
	}
	ca, err := pass.unlock(c, folder)
	if err != nil {
		return err
	}
	until := now.Add(good)
	list, err := folder.RevocationList(ca, now, until)
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(out, list, atomicfile.Public); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: number %d, good until %s; revoked now: %d\n", out, folder.Ledger.Revocations, until.Format(time.DateOnly), revoked)
	return err
}
