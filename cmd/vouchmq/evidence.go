package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/detect"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/examine"
)

// evidenceFlags say how to look at evidence in a file.
type evidenceFlags struct {
	collateral  string
	certificate string
	at          string
	reportData  string

	quote, signature, pcrs, ak, tdQuote string // files of evidence in several
}

func (f *evidenceFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.collateral, "collateral", "", "Intel's collateral: a store (vouchmq collateral fetch), or a JSON file of all documents")
	c.Flags().StringVar(&f.certificate, "certificate", "", "certificate (VCEK, VLEK) or key (CPAK) that a bare report lacks: PEM, DER or JWK")
	c.Flags().StringVar(&f.at, "time", "", "the time to verify at, as 2026-01-31T12:00:00Z (default: now)")
	c.Flags().StringVar(&f.reportData, "report-data", "", "what the report data must be, in hexadecimal digits; zeros at the end may be left out")
	c.Flags().StringVar(&f.signature, "signature", "", "signature of a TPM quote (tpm2_quote --signature)")
	c.Flags().StringVar(&f.pcrs, "pcrs", "", "values of the PCRs that a TPM quote is over (tpm2_quote --pcrs)")
	c.Flags().StringVar(&f.ak, "ak", "", "key that has signed a TPM quote: its public area (tpm2_createak --public), or PEM, which tells less")
	c.Flags().StringVar(&f.quote, "quote", "", "TPM quote that belongs to an HCL report of Azure")
	c.Flags().StringVar(&f.tdQuote, "td-quote", "", "TD quote that belongs to an HCL report of Azure with TDX")
	for _, name := range []string{"certificate", "signature", "pcrs", "ak", "quote", "td-quote"} {
		c.MarkFlagFilename(name)
	}
}

func (f *evidenceFlags) options() (o examine.Options, err error) {
	if o.Now, err = timeOf(f.at); err != nil {
		return o, err
	}
	if f.reportData != "" {
		if o.ReportData, err = hex.DecodeString(f.reportData); err != nil || len(o.ReportData) > 64 {
			return o, fmt.Errorf("--report-data is not up to 64 bytes in hexadecimal digits")
		}
	}
	if f.certificate != "" {
		if o.Endorsements, err = readEndorsement(f.certificate); err != nil {
			return o, err
		}
	}
	if err := f.addParts(&o.Parts); err != nil {
		return o, err
	}
	return o, f.addCollateral(&o)
}

// addParts reads the files of evidence that is in several.
func (f *evidenceFlags) addParts(p *examine.Parts) error {
	for _, part := range []struct {
		flag, file string
		to         *[]byte
	}{{"quote", f.quote, &p.Quote}, {"signature", f.signature, &p.Signature}, {"pcrs", f.pcrs, &p.PCRs}, {"ak", f.ak, &p.Key}, {"td-quote", f.tdQuote, &p.TDQuote}} {
		if part.file == "" {
			continue
		}
		data, err := readInput(part.file)
		if err != nil {
			return fmt.Errorf("--%s: %w", part.flag, err)
		}
		if block, _ := pem.Decode(data); block != nil && bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) { // quotes have PEM within
			data = block.Bytes
		}
		*part.to = data
	}
	return nil
}

func (f *evidenceFlags) addCollateral(o *examine.Options) error {
	if f.collateral == "" {
		return nil
	}
	info, err := os.Stat(f.collateral)
	if err != nil {
		return fmt.Errorf("--collateral: %w", err)
	}
	if info.IsDir() {
		o.Store, err = collateral.Open(f.collateral)
		return err
	}
	if o.Endorsements != nil {
		return errors.New("--certificate and a file as --collateral do not go together")
	}
	o.Endorsements, err = readInput(f.collateral)
	return err
}

// readInput reads a file of bounded size, "-" being stdin.
func readInput(name string) ([]byte, error) {
	if name == "-" {
		return readBounded(name, os.Stdin)
	}
	return readFile(name)
}

// readFile reads a file that somebody else may have made, or a name that was mistaken, such as that of a device: no more of it than anything that is
// read here can have.
func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readBounded(name, file)
}

func readBounded(name string, in io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(in, detect.MaxSize+1))
	if err != nil {
		return nil, err // which names the file
	}
	if len(data) > detect.MaxSize {
		return nil, fmt.Errorf("%s has more than %d bytes", name, detect.MaxSize)
	}
	return data, nil
}

// readEndorsement reads a certificate or public key and returns it as DER.
func readEndorsement(name string) ([]byte, error) {
	data, err := readInput(name)
	if err != nil {
		return nil, fmt.Errorf("--certificate: %w", err)
	}
	if block, _ := pem.Decode(data); block != nil {
		return block.Bytes, nil
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		der, err := keyOfJWK(data)
		if err != nil {
			return nil, fmt.Errorf("--certificate %s: %w", name, err)
		}
		return der, nil
	}
	return data, nil
}

// keyOfJWK reads an elliptic curve key (RFC 7517, RFC 7518 section 6.2.1).
func keyOfJWK(data []byte) ([]byte, error) {
	var w struct{ Kty, Crv, X, Y string }
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("it is no JWK: %w", err)
	}
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384()}[w.Crv]
	x, errX := base64.RawURLEncoding.DecodeString(w.X)
	y, errY := base64.RawURLEncoding.DecodeString(w.Y)
	if w.Kty != "EC" || curve == nil || errX != nil || errY != nil {
		return nil, errors.New("it is no JWK of an EC key on P-256 or P-384")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, fmt.Errorf("it is no JWK of a valid key: %w", err)
	}
	return x509.MarshalPKIXPublicKey(key)
}

// readPolicy reads a policy, of which only one identity counts if one is named.
func readPolicy(name, identity string) (*policy.Policy, error) {
	data, err := readInput(name)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(name, data)
	if err != nil || identity == "" {
		return p, err
	}
	return p.Only(identity)
}
