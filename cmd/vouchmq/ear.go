package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/attest/ear"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/examine"
)

// earFlags ask for an attestation result in a file.
type earFlags struct {
	out, key, nonce string
	validity        time.Duration
}

func (f *earFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.out, "ear", "", "write a signed attestation result (EAR, COSE_Sign1) to this file, whatever the outcome")
	c.Flags().StringVar(&f.key, "ear-key", "", "key to sign it with: PEM, P-256 or P-384")
	c.Flags().StringVar(&f.nonce, "ear-nonce", "", "nonce of who will rely on it, 8 to 64 bytes in hexadecimal digits")
	c.Flags().DurationVar(&f.validity, "ear-validity", time.Hour, "how long it is valid, at most as long as the evidence can be verified")
	c.MarkFlagsRequiredTogether("ear", "ear-key")
}

func (f *earFlags) write(r *examine.Result) error {
	if f.out == "" {
		return nil
	}
	key, err := readECKey(f.key)
	if err != nil {
		return fmt.Errorf("--ear-key: %w", err)
	}
	nonce, err := hex.DecodeString(f.nonce)
	if err != nil {
		return errors.New("--ear-nonce is not in hexadecimal digits")
	}
	if len(nonce) == 0 {
		nonce = nil
	}
	data, err := ear.Sign(r.EAR(ear.Verifier{Developer: "https://vouchmq.dev", Build: "vouchmq " + version}, nonce, f.validity), key, rand.Reader)
	if err != nil {
		return fmt.Errorf("--ear: %s", err)
	}
	return os.WriteFile(f.out, data, 0o644)
}
