package main

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vouchmq/vouchmq/atls/owner"
)

func cmdSetVar(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: setvar VARIABLE FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// cmdTamper changes what a PEM block holds, so that the armour does not tell.
func cmdTamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tamper FILE TO")
	}
	block, _ := pem.Decode([]byte(ts.ReadFile(args[0])))
	block.Bytes[len(block.Bytes)/2] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(block), 0o600))
}

// cmdSwapKey is what the machine's operator would do to get a certificate for a key of their own.
func cmdSwapKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: swapkey FILE TO")
	}
	request, err := owner.ParseRequest([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	key, err := owner.NewKey()
	ts.Check(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: request.Service}}, key)
	ts.Check(err)
	request.CSR, err = x509.ParseCertificateRequest(der)
	ts.Check(err)
	file, err := request.Encode()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), file, 0o600))
}
