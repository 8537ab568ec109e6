package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/cafolder"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/show"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/terminal"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
)

// policyFlags name the identity that a broker must hold.
type policyFlags struct{ file, identity string }

func (f *policyFlags) define(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "policy", "", "policy that the broker is judged by")
	c.Flags().StringVar(&f.identity, "identity", "broker", "identity of the policy that the broker must hold")
	c.MarkFlagRequired("policy")
}

func (f *policyFlags) read() (*policy.Policy, error) {
	text, err := readFile(f.file)
	if err != nil {
		return nil, fmt.Errorf("--policy: %w", err)
	}
	return policy.Parse(f.file, text)
}

// termsFlags say what of the folder's settings changes, and how long things are good.
type termsFlags struct {
	addresses, names []string
	bundleDays       int
}

func (f *termsFlags) define(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.addresses, "address", nil, "host:port by which clients reach the broker, in place of those before; more than once for several")
	fs.StringArrayVar(&f.names, "name", nil, "further host name or IP address for the broker's certificate, in place of those before; more than once for several")
	fs.IntVar(&f.bundleDays, "bundle-days", 0, "how long the bundle is good; 0 is for ever")
}

func (f *termsFlags) terms(now time.Time) (t cafolder.Terms, err error) {
	t = cafolder.Terms{Addresses: f.addresses, Names: f.names}
	if f.bundleDays == 0 {
		return t, nil
	}
	good, err := inDays("bundle-days", f.bundleDays)
	t.NotAfter = now.Add(good).UTC().Truncate(time.Second)
	return t, err
}

type signFlags struct {
	folder, nonce, out, bundle string
	days                       int
	enroll, dryRun             bool
	policy                     policyFlags
	terms                      termsFlags
	passphrase                 passphraseFlags
	collateral                 collateralFlag
}

func newCASign() *cobra.Command {
	var f signFlags
	c := &cobra.Command{
		Use:   "sign REQUEST --ca DIR --policy FILE --identity NAME --out FILE --bundle FILE",
		Short: "Verify a broker's request, issue its certificate, and sign the bundle of its clients",
		Long: `Verify that the keys of a request were made by a program that holds an identity of the policy, for this request and no
other, after you asked for it. Only then the certificate is issued, and a bundle signed that has the same identity, the
broker's new ECH key, and the next serial number. What was verified is printed either way.

The request must answer a nonce from vouchmq ca challenge, or the one of --nonce; a broker that renews a certificate of
this folder needs none. Each can be answered once.

With --enroll the hardware that the evidence names is enrolled: from then on requests from any other are refused, and
so does a client with the new bundle. A simulated TEE is accepted only where the identity says "simulated: allow".

Exit status: 0 issued (with --dry-run: it would be); 1 wrong usage or another error; 3 refused.`,
		Example: `  vouchmq ca sign request.pem --ca plant-ca --policy broker-policy.yaml --identity broker --out cert.pem --bundle plant.bundle
  vouchmq ca sign request.pem --ca plant-ca --policy broker-policy.yaml --dry-run
  vouchmq ca sign request.pem --ca plant-ca --policy broker-policy.yaml --enroll --days 30 --bundle-days 60 --out cert.pem --bundle plant.bundle`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.folder, "ca", "", "folder that vouchmq ca init made")
	f.policy.define(c)
	fs.StringVar(&f.nonce, "nonce", "", "nonce that the request must answer (default: one that the folder has given out)")
	fs.BoolVar(&f.enroll, "enroll", false, "enrol the hardware of the request")
	f.collateral.register(fs)
	fs.IntVar(&f.days, "days", 90, "how long the certificate is good")
	fs.StringVar(&f.out, "out", "", "file for the certificate")
	fs.StringVar(&f.bundle, "bundle", "", "file for the bundle")
	f.terms.define(fs)
	f.passphrase.define(c)
	fs.BoolVar(&f.dryRun, "dry-run", false, "verify only: issue nothing, and do not ask for the passphrase")
	c.MarkFlagRequired("ca")
	c.MarkFlagsRequiredTogether("out", "bundle")
	c.MarkFlagsOneRequired("out", "dry-run")
	return c
}

func (f *signFlags) run(c *cobra.Command, requestFile string) error {
	now := time.Now()
	terms, err := f.terms.terms(now)
	if err != nil {
		return err
	}
	if terms.Validity, err = inDays("days", f.days); err != nil {
		return err
	}
	folder, err := cafolder.Open(f.folder)
	if err != nil {
		return err
	}
	accepted, err := f.judge(c, folder, requestFile, now)
	if err != nil || f.dryRun {
		return err
	}
	ca, err := f.passphrase.unlock(c, folder)
	if err != nil {
		return err
	}
	issued, err := folder.Issue(ca, accepted, terms, now)
	if err != nil {
		return err
	}
	err = errors.Join(atomicfile.Replace(f.out, owner.EncodeCertificate(issued.Certificate.Raw), atomicfile.Public),
		atomicfile.Replace(f.bundle, issued.BundleFile, atomicfile.Public))
	if err != nil {
		return withHint(fmt.Errorf("the certificate is issued and kept in %s, but: %w", issued.Path, err), "copy it from there, and sign a bundle with vouchmq ca bundle")
	}
	return f.report(c, accepted, issued)
}

// judge verifies the request and prints what was found.
func (f *signFlags) judge(c *cobra.Command, folder *cafolder.Folder, requestFile string, now time.Time) (*cafolder.Accepted, error) {
	data, err := readFile(requestFile)
	if err != nil {
		return nil, err
	}
	request, err := owner.ParseRequest(data)
	if err != nil {
		return nil, explainRequest(fmt.Errorf("%s: %w", requestFile, err))
	}
	order := cafolder.Order{Identity: f.policy.identity, Enroll: f.enroll}
	if order.Registry, err = f.collateral.registry(); err != nil {
		return nil, err
	}
	if order.Policy, err = f.policy.read(); err != nil {
		return nil, err
	}
	if f.nonce != "" {
		nonce, err := owner.ParseNonce(f.nonce)
		if err != nil {
			return nil, fmt.Errorf("--nonce: %w", err)
		}
		order.Nonce = &nonce
	}
	accepted, verdict, err := folder.Judge(c.Context(), request, order, now)
	if verdict != nil {
		s := show.Of(verdict)
		s.Service = request.Service
		if err := s.Write(c.OutOrStdout()); err != nil {
			return nil, err
		}
	}
	return accepted, explainRequest(err)
}

func (f *signFlags) report(c *cobra.Command, a *cafolder.Accepted, i *cafolder.Issued) error {
	w := c.OutOrStdout()
	hardware := "any that fits the policy; --enroll would bind the service to this one"
	if list := a.Instances(); len(list) > 0 {
		hardware = strings.Join(list, ", ")
	}
	if a.Enrolled() != "" {
		hardware += " (enrolled now)"
	}
	names := i.Certificate.DNSNames
	for _, ip := range i.Certificate.IPAddresses {
		names = append(names, ip.String())
	}
	fmt.Fprintln(w)
	err := terminal.Facts(w,
		"certificate", f.out+", good until "+i.Certificate.NotAfter.UTC().Format(time.RFC3339), "names", strings.Join(names, " "),
		"bundle", fmt.Sprintf("%s, serial number %d%s", f.bundle, i.Bundle.Serial, until(i.Bundle)), "clients accept", hardware)
	if len(a.Configs()) == 0 {
		fmt.Fprintln(w, "\nThe policy names no configuration, so clients accept the broker with any: to pin that of the request, put its digest into the identity (config).")
	}
	if len(i.Bundle.Addresses) == 0 {
		fmt.Fprintln(w, "\nThe bundle names no address, so clients must be told one: --address HOST:PORT puts it in.")
	}
	fmt.Fprintf(w, "\nNext: give %s to the broker (vouchmq enroll --install %s), and %s to clients.\n", f.out, filepath.Base(f.out), f.bundle)
	return err
}

func until(b *client.Bundle) string {
	if b.NotAfter.IsZero() {
		return ""
	}
	return ", good until " + b.NotAfter.Format(time.RFC3339)
}

// requestHints are by the kind of failure, the special before the general.
var requestHints = []struct {
	kind attest.Kind
	hint string
}{
	{attest.ErrFreshness, "get a nonce with vouchmq ca challenge, have the broker make a request with it, and sign that"},
	{attest.ErrSimulated, "a simulated TEE protects nothing; only an identity that says \"simulated: allow\" accepts it"},
	{attest.ErrModule, "the broker runs other code than the policy accepts: do not issue, unless that is meant and the policy says so"},
	{attest.ErrConfig, "the broker has another configuration than the policy accepts: do not issue, unless that is meant and the policy says so"},
	{attest.ErrRuntime, "the broker runs under another runtime than the policy accepts: do not issue, unless that is meant and the policy says so"},
	{attest.ErrInstance, "the request comes from hardware that is not enrolled; --enroll enrols it, if you know that machine"},
	{attest.ErrPolicy, "the policy does not accept this broker: do not issue, unless that is meant and the policy says so"},
	{attest.ErrBinding, "have the broker make a new request, and see that nobody changes it on its way"},
	{attest.ErrSignature, "have the broker make a new request, and see that nobody changes it on its way"},
	{attest.ErrFormat, "is this the file that vouchmq enroll wrote, whole?"},
}

// explainRequest adds what to do about a request that is refused.
func explainRequest(err error) error {
	for _, h := range requestHints {
		if errors.Is(err, h.kind) {
			return withHint(err, h.hint)
		}
	}
	return err
}
