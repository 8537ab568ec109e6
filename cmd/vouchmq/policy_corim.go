package main

import (
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/attest/corim"
	"github.com/vouchmq/vouchmq/attest/policy"
)

func newPolicyToCoRIM() *cobra.Command {
	var id, keyFile, out string
	c := &cobra.Command{
		Use:   "to-corim FILE",
		Short: "Write the identities of a policy as a CoRIM, for other verifiers",
		Long: `Write the identities of a policy as a CoRIM (draft-ietf-rats-corim-11, in CBOR): reference values for other verifiers. Rules are left out, since a
CoRIM has no place for them. With --key it is signed (COSE_Sign1).`,
		Example: `  vouchmq policy to-corim policy.yaml --id plant --key owner.pem --out plant.corim`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			data, err := encodeCoRIM(args[0], id, keyFile)
			if err != nil {
				return err
			}
			return writeOutput(c, out, data)
		},
	}
	helpWithoutShorthand(c)
	c.Flags().StringVar(&id, "id", "vouchmq", "id of the CoRIM")
	c.Flags().StringVar(&keyFile, "key", "", "key to sign it with: PEM, P-256 or P-384")
	registerOutput(c, &out)
	return c
}

func encodeCoRIM(file, id, keyFile string) ([]byte, error) {
	p, err := readPolicy(file, "")
	if err != nil {
		return nil, err
	}
	data, err := corim.Encode(id, p.Identities())
	if err != nil || keyFile == "" {
		return data, err
	}
	key, err := readECKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	return corim.Sign(data, key, rand.Reader)
}

func newPolicyFromCoRIM() *cobra.Command {
	var keyFile, out string
	c := &cobra.Command{
		Use:   "from-corim FILE",
		Short: "Read a CoRIM as a policy",
		Long: `Read a CoRIM, as vouchmq policy to-corim writes it, as a policy without rules. One that is signed needs the public key or certificate of who
signed it.

Exit status: 0 done; 1 wrong usage, or it is no such CoRIM; 3 the signature is not valid.`,
		Example: `  vouchmq policy from-corim plant.corim --key owner.crt --out policy.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := decodeCoRIM(args[0], keyFile)
			if err != nil {
				return err
			}
			return writeOutput(c, out, p.YAML())
		},
	}
	helpWithoutShorthand(c)
	c.Flags().StringVar(&keyFile, "key", "", "public key or certificate of who signed it: PEM")
	registerOutput(c, &out)
	return c
}

func decodeCoRIM(file, keyFile string) (*policy.Policy, error) {
	data, err := readInput(file)
	if err != nil {
		return nil, err
	}
	if corim.Signed(data) != (keyFile != "") {
		return nil, fmt.Errorf("a CoRIM that is signed needs --key, and one that is not must not have it")
	}
	if keyFile == "" {
		_, p, err := corim.Decode(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", file, err)
		}
		return p, nil
	}
	key, err := readPublicECKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	_, p, err := corim.Open(data, key)
	return p, refused(err)
}
