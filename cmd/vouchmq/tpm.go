package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest/tpm"
)

// Files of the folder of a CA that enrols machines.
const (
	tpmCAFile  = "ca.pem"
	tpmKeyFile = "ca.key"
)

// tpmPatience is how long a TPM may take for a command: some make RSA keys in many seconds.
const tpmPatience = 2 * time.Minute

func newTPM() *cobra.Command {
	c := &cobra.Command{
		Use:   "tpm",
		Short: "Enrol machines by their TPM",
		Long: `Enrol a machine by its TPM: nothing else shows that the key which signs its evidence is in a TPM. Four steps, of which the first and the
third are for the machine, and the others for its owner, who has made a CA once (vouchmq tpm init):

  vouchmq tpm request --out request.pem                                           on the machine
  vouchmq tpm challenge request.pem --ca machines --ek-roots makers.pem --out challenge.pem
  vouchmq tpm answer challenge.pem --out answer.pem                               on the machine
  vouchmq tpm certify answer.pem --ca machines --out ak.pem

The files between them are not secret. ak.pem is what the broker's configuration names as tpm.certificate. More is in
docs/platforms/tpm.md.`,
	}
	helpWithoutShorthand(c)
	c.AddCommand(newTPMInit(), newTPMRequest(), newTPMChallenge(), newTPMAnswer(), newTPMCertify(), newTPMPCRs())
	return c
}

func newTPMInit() *cobra.Command {
	var name string
	var days int
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a CA that certifies attestation keys",
		Long: `Make a folder with a CA that certifies the attestation keys of machines, and nothing else. Whoever has its key can pass off
anything as a machine that was enrolled: keep the folder away from the machines.`,
		Example: `  vouchmq tpm init machines --name plant-machines`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return tpmInit(c, args[0], name, days) },
	}
	helpWithoutShorthand(c)
	c.Flags().StringVar(&name, "name", "VouchMQ machines", "name of the CA")
	c.Flags().IntVar(&days, "days", 3650, "how long it is good")
	return c
}

var errTPMCAExists = errors.New("there is a CA of machines already, and it is not overwritten")

func tpmInit(c *cobra.Command, dir, name string, days int) error {
	validity, err := inDays("days", days)
	if err != nil {
		return err
	}
	for _, name := range []string{tpmKeyFile, tpmCAFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", filepath.Join(dir, name), errors.Join(errTPMCAExists, err))
		}
	}
	ca, err := owner.New(name, time.Now(), validity)
	if err != nil {
		return err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, tpmKeyFile), key); err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, tpmCAFile), ca.CertificatePEM()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "made a CA in %s; a policy names it as\n\n  ak_ca: [%s]\n", dir, caDigest(ca.Certificate()))
	return err
}

// caDigest is how a policy calls a CA.
func caDigest(ca *x509.Certificate) string {
	digest := owner.Fingerprint(ca)
	return hex.EncodeToString(digest[:])
}

// writeNew makes a file for nobody else to read, and overwrites none.
func writeNew(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// deviceFlags are of commands that speak with the machine's TPM.
type deviceFlags struct{ device, out string }

func (f *deviceFlags) define(c *cobra.Command) {
	c.Flags().StringVar(&f.device, "device", tpm.Device, "path of the TPM's device, or of the socket of one in software")
	defineOut(c, &f.out)
}

func defineOut(c *cobra.Command, out *string) {
	c.Flags().StringVar(out, "out", "-", "file to write; - is standard output")
}

// writeOut writes a file that is no secret.
func writeOut(c *cobra.Command, name string, content []byte) error {
	if name == "-" {
		_, err := c.OutOrStdout().Write(content)
		return err
	}
	return os.WriteFile(name, content, 0o644)
}

func newTPMRequest() *cobra.Command {
	var f deviceFlags
	c := &cobra.Command{
		Use:   "request",
		Short: "On the machine: say which keys its TPM has",
		Long: `Write which endorsement key the TPM of this machine has, with the certificate of its maker, and which attestation key. What the
owner may compare, if there is no certificate, is shown.`,
		Example: `  vouchmq tpm request --out request.pem`,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return tpmRequest(c, &f) },
	}
	helpWithoutShorthand(c)
	f.define(c)
	return c
}

func tpmRequest(c *cobra.Command, f *deviceFlags) error {
	ctx, cancel := context.WithTimeout(c.Context(), tpmPatience)
	defer cancel()
	r, err := tpm.NewRequest(ctx, f.device)
	if err != nil {
		return explainTPM(err)
	}
	text, err := r.Encode()
	if err != nil {
		return err
	}
	describeRequest(c.ErrOrStderr(), r)
	return writeOut(c, f.out, text)
}

// explainTPM adds what to do about a TPM that cannot be used.
func explainTPM(err error) error {
	switch {
	case errors.Is(err, tpm.ErrNoDevice):
		return withHint(err, "is it switched on in the setup of the machine? Another path: --device")
	case errors.Is(err, fs.ErrPermission):
		return withHint(err, "its device is for root, and for the group tss")
	}
	return err
}

func describeRequest(w io.Writer, r *tpm.Request) {
	ak := tpm.KeyDigest(r.AK)
	fmt.Fprintf(w, "endorsement key  %s\nattestation key  %x\n", r.HardwareID(), ak)
}

func newTPMChallenge() *cobra.Command {
	var f challengeFlags
	c := &cobra.Command{
		Use:   "challenge REQUEST --ca DIR",
		Short: "For the owner: challenge a machine",
		Long: `Check that the request is of a TPM of a maker whose certificates are given (--ek-roots), or of the TPM that is named (--ek), and make a
challenge that only this TPM can answer. One challenge can be answered once.

A TPM in software, and some others, have no certificate. Then compare the digest that vouchmq tpm request shows with what you know of the
machine by a way that nobody else can change, and give it as --ek.`,
		Example: `  vouchmq tpm challenge request.pem --ca machines --ek-roots makers.pem --out challenge.pem
  vouchmq tpm challenge request.pem --ca machines --ek tpm:2d50… --out challenge.pem`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return tpmChallenge(c, args[0], &f) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.StringVar(&f.ca, "ca", "", "folder of the CA")
	fs.StringVar(&f.roots, "ek-roots", "", "file with certificates of makers of TPMs (PEM), with those between root and TPM")
	fs.StringVar(&f.ek, "ek", "", "the endorsement key, as vouchmq tpm request shows it")
	defineOut(c, &f.out)
	_ = c.MarkFlagRequired("ca") // it was defined above
	c.MarkFlagsMutuallyExclusive("ek-roots", "ek")
	return c
}

type challengeFlags struct{ ca, roots, ek, out string }

func tpmChallenge(c *cobra.Command, name string, f *challengeFlags) error {
	text, err := readFile(name)
	if err != nil {
		return err
	}
	r, err := tpm.ParseRequest(text)
	if err != nil {
		return err
	}
	describeRequest(c.ErrOrStderr(), r)
	if err := f.believe(r); err != nil {
		return err
	}
	if _, err := readTPMCA(f.ca); err != nil {
		return err
	}
	challenge, pending, err := r.Challenge(rand.Reader)
	if err != nil {
		return err
	}
	kept, err := pending.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(pendingFile(f.ca, challenge.AK), kept, 0o600); err != nil {
		return err
	}
	out, err := challenge.Encode()
	if err != nil {
		return err
	}
	return writeOut(c, f.out, out)
}

// believe decides whether the endorsement key is that of a TPM.
func (f *challengeFlags) believe(r *tpm.Request) error {
	if f.ek != "" {
		if f.ek != r.HardwareID() {
			return fmt.Errorf("--ek: the request is of another TPM: %s", r.HardwareID())
		}
		return nil
	}
	if f.roots == "" {
		return withHint(errors.New("nothing says that this endorsement key is of a TPM"),
			"give the certificates of its maker with --ek-roots, or compare the digest above by another way and give it with --ek")
	}
	text, err := readFile(f.roots)
	if err != nil {
		return fmt.Errorf("--ek-roots: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("--ek-roots: there is no certificate (PEM) in %s", f.roots)
	}
	err = r.VerifyEK(roots, time.Now())
	if errors.Is(err, tpm.ErrNoCertificate) {
		return withHint(err, "compare the digest above by another way and give it with --ek")
	}
	return err
}

func readTPMCA(dir string) (*owner.CA, error) {
	certificate, err := os.ReadFile(filepath.Join(dir, tpmCAFile))
	if err != nil {
		return nil, withHint(fmt.Errorf("--ca: %w", err), "a CA is made with: vouchmq tpm init DIR")
	}
	key, err := os.ReadFile(filepath.Join(dir, tpmKeyFile))
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	ca, err := owner.Parse(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("--ca: %s: %w", dir, err)
	}
	return ca, nil
}

// pendingFile is where the secret of a challenge is kept. What the name is made of has the size of a digest, or there is no such file.
func pendingFile(dir string, ak []byte) string {
	return filepath.Join(dir, "pending-"+hex.EncodeToString(ak)+".pem")
}

func newTPMAnswer() *cobra.Command {
	var f deviceFlags
	c := &cobra.Command{
		Use:     "answer CHALLENGE",
		Short:   "On the machine: answer the challenge of the owner",
		Long:    `Have the TPM of this machine read the challenge, which no other can.`,
		Example: `  vouchmq tpm answer challenge.pem --out answer.pem`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return tpmAnswer(c, args[0], &f) },
	}
	helpWithoutShorthand(c)
	f.define(c)
	return c
}

func tpmAnswer(c *cobra.Command, name string, f *deviceFlags) error {
	text, err := readFile(name)
	if err != nil {
		return err
	}
	challenge, err := tpm.ParseChallenge(text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), tpmPatience)
	defer cancel()
	answer, err := tpm.Answer(ctx, f.device, challenge)
	if err != nil {
		return explainTPM(err)
	}
	out, err := answer.Encode()
	if err != nil {
		return err
	}
	return writeOut(c, f.out, out)
}

func newTPMPCRs() *cobra.Command {
	var o tpm.Options
	var bank string
	c := &cobra.Command{
		Use:   "pcrs",
		Short: "On the machine: show its PCRs as a policy has them",
		Long: `Show the attestation key and the PCRs of this machine, as a policy would demand them. They are what the machine says of itself: take
them from one that you trust.`,
		Example: `  vouchmq tpm pcrs
  vouchmq tpm pcrs --pcr 4,9,14 --bank sha384`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return tpmPCRs(c, o, bank) },
	}
	helpWithoutShorthand(c)
	c.Flags().StringVar(&o.Device, "device", tpm.Device, "path of the TPM's device, or of the socket of one in software")
	c.Flags().StringVar(&bank, "bank", "sha256", "sha256 or sha384")
	c.Flags().IntSliceVar(&o.PCRs, "pcr", tpm.DefaultPCRs(), "numbers of the PCRs")
	return c
}

func tpmPCRs(c *cobra.Command, o tpm.Options, bank string) error {
	var ok bool
	if o.Hash, ok = map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384}[bank]; !ok {
		return fmt.Errorf("--bank: %q is neither sha256 nor sha384", bank)
	}
	ctx, cancel := context.WithTimeout(c.Context(), tpmPatience)
	defer cancel()
	a, err := tpm.NewAttester(ctx, o)
	if err != nil {
		return explainTPM(err)
	}
	registers, err := a.Registers(ctx)
	if err != nil {
		return explainTPM(err)
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "tpm:\n  ak: [%x]\n  pcrs:\n", a.Key())
	for _, i := range slices.Sorted(maps.Keys(registers)) {
		if _, err := fmt.Fprintf(w, "    %d: %x\n", i, registers[i]); err != nil {
			return err
		}
	}
	return nil
}

func newTPMCertify() *cobra.Command {
	var dir, out string
	var days int
	c := &cobra.Command{
		Use:   "certify ANSWER --ca DIR",
		Short: "For the owner: certify the attestation key of a machine",
		Long: `Compare the answer with the challenge, and certify the attestation key if it is right. What a policy may say of the machine is
shown. The certificate goes to the machine, where tpm.certificate of the broker's configuration names it.`,
		Example: `  vouchmq tpm certify answer.pem --ca machines --out ak.pem`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return tpmCertify(c, args[0], dir, out, days) },
	}
	helpWithoutShorthand(c)
	c.Flags().StringVar(&dir, "ca", "", "folder of the CA")
	c.Flags().IntVar(&days, "days", 730, "how long the certificate is good")
	defineOut(c, &out)
	_ = c.MarkFlagRequired("ca") // it was defined above
	return c
}

func tpmCertify(c *cobra.Command, name, dir, out string, days int) error {
	validity, err := inDays("days", days)
	if err != nil {
		return err
	}
	text, err := readFile(name)
	if err != nil {
		return err
	}
	answer, err := tpm.ParseResponse(text)
	if err != nil {
		return err
	}
	ca, err := readTPMCA(dir)
	if err != nil {
		return err
	}
	kept := pendingFile(dir, answer.AK)
	pending, err := readPending(kept)
	if err != nil {
		return err
	}
	certificate, request, err := pending.Certify(answer, ca.Certificate(), ca.Key(), time.Now(), validity)
	if err != nil {
		return err
	}
	if err := os.Remove(kept); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s is enrolled; a policy may say of it:\n\n    any_of:\n      - tpm: { ak: [%x], pcrs: { … } }\n\nor\n\n    any_of:\n      - tpm: { ak_ca: [%s], pcrs: { … } }\n    instances: [%q]\n",
		request.HardwareID(), tpm.KeyDigest(request.AK), caDigest(ca.Certificate()), request.HardwareID())
	return writeOut(c, out, certificate)
}

func readPending(name string) (*tpm.Pending, error) {
	text, err := readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("no challenge for this key waits for an answer: it was never given out, or has been answered")
	}
	if err != nil {
		return nil, err
	}
	return tpm.ParsePending(text)
}
