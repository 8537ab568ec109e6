package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/terminal"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
)

func newBundle() *cobra.Command {
	c := &cobra.Command{
		Use:   "bundle",
		Short: "See and verify bundles, and put a new one in place of an old one",
	}
	helpWithoutShorthand(c)
	c.AddCommand(newBundleShow(), newBundleVerify(), newBundleUpdate())
	return c
}

// shownBundle is what `vouchmq bundle show --json` prints.
type shownBundle struct {
	Service    string    `json:"service"`
	Addresses  []string  `json:"addresses"`
	Owner      string    `json:"owner"` // fingerprint
	OwnerUntil time.Time `json:"owner_until"`
	Next       string    `json:"next_owner,omitempty"` // fingerprint
	PublicName string    `json:"public_name"`
	Serial     uint64    `json:"serial"`
	IssuedAt   time.Time `json:"issued_at"`
	NotAfter   time.Time `json:"not_after,omitzero"`
	Expired    bool      `json:"expired"`
	Policy     string    `json:"policy"` // as YAML
}

func shownBundleOf(b *client.Bundle, now time.Time) shownBundle {
	s := shownBundle{
		Service: b.Service, Addresses: b.Addresses, Owner: b.Fingerprint().String(), OwnerUntil: b.OwnerCA.NotAfter.UTC(), Serial: b.Serial,
		IssuedAt: b.IssuedAt, NotAfter: b.NotAfter, Expired: b.CheckTime(now) != nil, Policy: string(b.Policy.YAML()),
	}
	s.PublicName, _ = atls.CheckECHConfigList(b.ECHConfigList) // was checked
	if b.NextCA != nil {
		s.Next = owner.Fingerprint(b.NextCA).String()
	}
	return s
}

func (s *shownBundle) write(w io.Writer, b *client.Bundle) error {
	expires := "never"
	if !s.NotAfter.IsZero() {
		expires = s.NotAfter.Format(time.RFC3339) + map[bool]string{true: " (EXPIRED)"}[s.Expired]
	}
	err := terminal.Facts(w,
		"service", s.Service, "addresses", strings.Join(s.Addresses, " "), "owner", s.Owner, "next owner", s.Next,
		"serial", fmt.Sprint(s.Serial), "issued at", s.IssuedAt.Format(time.RFC3339), "expires", expires, "seen by others as", s.PublicName)
	if err != nil {
		return err
	}
	words := strings.TrimSuffix(b.Policy.Explain(), "\n")
	words = words[:strings.LastIndexByte(words, '\n')+1] // the last line is about rules, and bundles have none
	_, err = fmt.Fprintf(w, "\nWhom it accepts:\n%s", words)
	return err
}

func newBundleShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show FILE",
		Short: "See what is in a bundle, and whom it accepts",
		Long: `Print what a bundle says: service, addresses, owner, dates, and which brokers it accepts. Its signature is checked first:
it is whole, and signed by the owner that it names. Compare the owner's fingerprint with what the owner tells you.`,
		Example: `  vouchmq bundle show plant.bundle
  vouchmq bundle show plant.bundle --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			b, err := client.ReadBundle(args[0])
			if err != nil {
				return explainBundle(err)
			}
			s := shownBundleOf(b, time.Now())
			if asJSON {
				return printJSON(c.OutOrStdout(), s)
			}
			return s.write(c.OutOrStdout(), b)
		},
	}
	helpWithoutShorthand(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newBundleVerify() *cobra.Command {
	var fingerprint, previous string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify that a bundle is whole, current, and from the owner that you know",
		Long: `Verify a bundle: it is whole, signed by the owner that it names, and has not expired. Whether that owner is the right
one, it is told by the owner's fingerprint (--owner), or by a bundle that you have and trust (--previous): then the new
one must be for the same service, not older, and signed by the same owner, or by the one that yours announces.

Exit status: 0 it is good; 1 wrong usage or another error; 3 it is not.`,
		Example: `  vouchmq bundle verify new.bundle --previous plant.bundle
  vouchmq bundle verify plant.bundle --owner sha384:0123`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			b, _, err := verifyBundle(args[0], fingerprint, previous)
			if err != nil {
				return explainBundle(err)
			}
			known := "compare its fingerprint with what the owner tells you"
			if fingerprint != "" || previous != "" {
				known = "whom you know"
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is whole and current: serial number %d of %s, signed by %s (%s)\n", args[0], b.Serial, b.Service, b.Fingerprint(), known)
			return err
		},
	}
	helpWithoutShorthand(c)
	c.Flags().StringVar(&fingerprint, "owner", "", "fingerprint of the owner")
	c.Flags().StringVar(&previous, "previous", "", "bundle that you have and trust")
	return c
}

// verifyBundle returns a bundle and the content of its file if it is to be used.
func verifyBundle(path, fingerprint, previous string) (*client.Bundle, []byte, error) {
	content, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	b, err := client.ParseBundle(content)
	if err == nil {
		err = b.CheckTime(time.Now())
	}
	if err == nil && fingerprint != "" {
		err = checkFingerprint(b, fingerprint)
	}
	if err == nil && previous != "" {
		err = checkPrevious(b, previous)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, content, nil
}

func checkFingerprint(b *client.Bundle, fingerprint string) error {
	want, err := attest.ParseDigest(fingerprint)
	if err != nil {
		return fmt.Errorf("--owner: %w", err)
	}
	return b.CheckOwner(want)
}

func checkPrevious(b *client.Bundle, path string) error {
	old, err := client.ReadBundle(path)
	if err != nil {
		return fmt.Errorf("the bundle to compare with: %w", err)
	}
	return b.Succeeds(old)
}

func newBundleUpdate() *cobra.Command {
	var old string
	c := &cobra.Command{
		Use:   "update NEW --old FILE",
		Short: "Put a new bundle in place of the one that you have",
		Long: `Verify a new bundle by the one that you have, as vouchmq bundle verify --previous does, and put it in its place. If the new
one is refused, yours stays as it is. Clients read the file when they start.

Exit status: 0 it is in place; 1 wrong usage or another error; 3 it is refused.`,
		Example: `  vouchmq bundle update new.bundle --old plant.bundle`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			b, content, err := verifyBundle(args[0], "", old)
			if err != nil {
				return explainBundle(err)
			}
			if err := atomicfile.Replace(old, content, atomicfile.Public); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s has serial number %d now\n", old, b.Serial)
			return err
		},
	}
	helpWithoutShorthand(c)
	c.Flags().StringVar(&old, "old", "", "bundle that you have and trust, whose place the new one takes")
	c.MarkFlagRequired("old")
	return c
}

// bundleFaults are why a bundle is not to be used.
var bundleFaults = []error{
	client.ErrBundleFormat, client.ErrBundleVersion, client.ErrBundleSignature, client.ErrBundleContent, client.ErrBundleExpired,
	client.ErrBundleRollback, client.ErrBundleOwner, client.ErrBundleService,
}

// refusedBundle gives the error of a bundle that is not to be used its exit status.
type refusedBundle struct{ error }

func (r refusedBundle) Unwrap() error { return r.error }

func explainBundle(err error) error {
	for _, fault := range bundleFaults {
		if errors.Is(err, fault) {
			return refusedBundle{err}
		}
	}
	return err
}
