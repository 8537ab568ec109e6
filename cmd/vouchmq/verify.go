package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/examine"
)

type verifyFlags struct {
	evidence evidenceFlags
	policy   string
	identity string
	json     bool
	ear      earFlags
}

func newVerify() *cobra.Command {
	f := &verifyFlags{}
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Explain evidence in a file, field by field, and say whether it is genuine",
		Long: `Explain evidence in a file, field by field, verify it, and have a policy judge it. What kind of evidence it is shows in its bytes:
evidence of VouchMQ, also in the request of vouchmq enroll, quotes of Intel SGX and TDX, reports of AMD SEV-SNP, documents of AWS Nitro Enclaves, tokens of Arm
CCA, quotes of TPMs, HCL reports of Azure, certificates of RA-TLS; as they are, in hexadecimal digits, base64 or PEM. FILE "-"
is stdin. What belongs to a quote of a TPM or to an HCL report is named by flags: signature, PCRs, key, quotes.

Evidence in a file is bound to no connection: it shows that there was such a TEE, and not who sent the file, unless you know what its
report data must be (--report-data).

Exit status: 0 accepted by the policy, or without one genuine; 1 wrong usage, or no evidence; 3 refused, or not verified.`,
		Example: `  vouchmq verify quote.bin --collateral ~/.cache/vouchmq/collateral
  vouchmq verify report.bin --certificate vcek.pem --policy policy.yaml --identity broker
  vouchmq verify quote.msg --signature quote.sig --pcrs pcrs.bin --ak ak.pub
  vouchmq verify hcl.bin --certificate vcek.pem --quote quote.msg --signature quote.sig --pcrs pcrs.bin
  vouchmq verify evidence.cbor --time 2026-01-31T12:00:00Z --json
  vouchmq verify quote.bin --policy policy.yaml --ear result.cbor --ear-key verifier.pem`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return verify(c, args[0], f) },
	}
	helpWithoutShorthand(c)
	f.evidence.register(c)
	c.Flags().StringVar(&f.policy, "policy", "", "the policy to judge by")
	c.Flags().StringVar(&f.identity, "identity", "", "the only identity of the policy that counts")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.ear.register(c)
	return c
}

func verify(c *cobra.Command, file string, f *verifyFlags) error {
	if f.identity != "" && f.policy == "" {
		return errors.New("--identity needs --policy")
	}
	if f.ear.out != "" && f.policy == "" {
		return errors.New("--ear needs --policy: a result for others says what was accepted, and by which policy")
	}
	result, err := examineFile(c, file, &f.evidence)
	if err != nil {
		return err
	}
	if f.policy != "" {
		p, err := readPolicy(f.policy, f.identity)
		if err != nil {
			return err
		}
		result.Judge(p)
	}
	if err := f.ear.write(result); err != nil {
		return err
	}
	if f.json {
		err = printJSON(c.OutOrStdout(), result)
	} else {
		err = result.Write(c.OutOrStdout())
	}
	if err != nil {
		return err
	}
	return withEvidenceHint(refused(result.Refusal()), result)
}

// withEvidenceHint says what is missing, if something is.
func withEvidenceHint(err error, r *examine.Result) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, collateral.FaultNoCollateral):
		return withHint(err, "fetch it with vouchmq collateral fetch FILE, and name the store with --collateral")
	case r.Platform == string(attest.Nitro) && errors.Is(err, attest.ErrFreshness):
		return withHint(err, "documents can be verified for three hours; to look at one that was stored, say with --time when it was made")
	}
	return err
}

// examineFile looks at evidence in a file. What is no evidence is wrong usage, not evidence that is refused.
func examineFile(c *cobra.Command, file string, f *evidenceFlags) (*examine.Result, error) {
	options, err := f.options()
	if err != nil {
		return nil, err
	}
	data, err := readInput(file)
	if err != nil {
		return nil, err
	}
	result, err := examineData(c.Context(), data, options)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", file, err) // without its kind, which would make it a refusal
	}
	return result, nil
}

// examineData looks at evidence, or at that in a broker's certificate request.
func examineData(ctx context.Context, data []byte, o examine.Options) (*examine.Result, error) {
	if !owner.IsRequest(data) {
		return examine.Examine(ctx, data, o)
	}
	request, err := owner.ParseRequest(data)
	if err != nil {
		return nil, err
	}
	result, err := examine.Examine(ctx, request.Evidence, o)
	if err != nil {
		return nil, err
	}
	result.Format += " in a certificate request"
	return result, nil
}

// refusedError is a refusal of evidence in a file. The hints for connections do not fit it.
type refusedError struct{ error }

func (r refusedError) Unwrap() error { return r.error }

func refused(err error) error {
	if err == nil {
		return nil
	}
	return refusedError{err}
}
