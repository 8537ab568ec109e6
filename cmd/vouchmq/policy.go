package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/examine"
	"github.com/vouchmq/vouchmq/internal/module"
)

func newPolicy() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check, try, draft and convert policies",
	}
	helpWithoutShorthand(c)
	c.AddCommand(newPolicyCheck(), newPolicyTest(), newPolicyFromEvidence(), newPolicyToCoRIM(), newPolicyFromCoRIM())
	return c
}

func newPolicyCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say in plain words whom a policy accepts and what they may do",
		Long: `Say in plain words whom a policy accepts and what they may do, or where it is wrong.

Exit status: 0 if nothing is wrong; 1 otherwise, with line and column.`,
		Example: `  vouchmq policy check policy.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := readPolicy(args[0], "")
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.OutOrStdout(), p.Explain())
			return err
		},
	}
	helpWithoutShorthand(c)
	return c
}

func newPolicyTest() *cobra.Command {
	var f evidenceFlags
	var identity string
	c := &cobra.Command{
		Use:   "test FILE EVIDENCE...",
		Short: "Try a policy on evidence in files, and explain each decision",
		Long: `Try a policy on evidence in files, and explain each decision: which identities hold, and why each other one does not.

Exit status: 0 if all evidence is accepted; 1 wrong usage, or a file is no evidence; 3 if some is refused.`,
		Example: `  vouchmq policy test policy.yaml quote.bin other.bin --collateral ~/.cache/vouchmq/collateral`,
		Args:    cobra.MinimumNArgs(2),
		RunE:    func(c *cobra.Command, args []string) error { return policyTest(c, args[0], args[1:], identity, &f) },
	}
	helpWithoutShorthand(c)
	f.register(c)
	c.Flags().StringVar(&identity, "identity", "", "the only identity of the policy that counts")
	return c
}

func policyTest(c *cobra.Command, file string, evidence []string, identity string, f *evidenceFlags) error {
	p, err := readPolicy(file, identity)
	if err != nil {
		return err
	}
	var refusals []error
	for _, name := range evidence {
		result, err := examineFile(c, name, f)
		if err != nil {
			return err
		}
		result.Judge(p)
		if err := result.WriteDecision(c.OutOrStdout(), name); err != nil {
			return err
		}
		if err := result.Refusal(); err != nil {
			refusals = append(refusals, fmt.Errorf("%s: %w", name, err))
		}
	}
	return refused(errors.Join(refusals...))
}

func newPolicyFromEvidence() *cobra.Command {
	var f evidenceFlags
	var identity, out string
	var modules []string
	c := &cobra.Command{
		Use:   "from-evidence FILE",
		Short: "Draft a policy that accepts the evidence in a file",
		Long: `Draft a policy that accepts the evidence in a file, with comments that say what each value is. It is a beginning: which values
may change, and whether what was there is what you want there, only you know. The evidence must be genuine.

A bare quote names no module: then the module of this program is put there, unless --module says which.`,
		Example: `  vouchmq policy from-evidence quote.bin --identity broker --collateral ~/.cache/vouchmq/collateral --out policy.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			result, err := examineFile(c, args[0], &f)
			if err != nil {
				return err
			}
			draft, err := draftPolicy(result, identity, modules)
			if err != nil {
				return err
			}
			return writeOutput(c, out, draft)
		},
	}
	helpWithoutShorthand(c)
	f.register(c)
	c.Flags().StringVar(&identity, "identity", "", "name of the identity")
	c.Flags().StringSliceVar(&modules, "module", nil, "digest of an accepted module, sha384:...")
	registerOutput(c, &out)
	c.MarkFlagRequired("identity")
	return c
}

func registerOutput(c *cobra.Command, out *string) {
	c.Flags().StringVar(out, "out", "", "write to this file (default: stdout)")
	c.MarkFlagFilename("out")
}

// writeOutput writes what a command makes to the file asked for, or to stdout.
func writeOutput(c *cobra.Command, out string, data []byte) error {
	if out == "" {
		_, err := c.OutOrStdout().Write(data)
		return err
	}
	return os.WriteFile(out, data, 0o644)
}

func draftPolicy(result *examine.Result, identity string, modules []string) ([]byte, error) {
	if result.Facts == nil || result.Err != nil {
		return nil, withEvidenceHint(refused(result.Err), result)
	}
	var digests []attest.Digest
	for _, m := range modules {
		d, err := attest.ParseDigest(m)
		if err != nil {
			return nil, fmt.Errorf("--module: %w", err)
		}
		digests = append(digests, d)
	}
	if len(digests) == 0 && result.Facts.Claims == nil {
		wasm, err := module.Bytes()
		if err != nil {
			return nil, fmt.Errorf("the evidence names no module, and this program carries none: name one with --module")
		}
		digests = append(digests, attest.Sum(wasm))
	}
	draft, err := policy.Draft(identity, result.Facts.Facts(), digests...)
	var kind attest.Kind
	if errors.As(err, &kind) {
		return nil, refused(err)
	}
	return draft, err
}
