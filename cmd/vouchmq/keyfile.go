package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// readECKey reads a private key: PEM of PKCS #8 or SEC 1.
func readECKey(name string) (*ecdsa.PrivateKey, error) {
	der, err := readPEM(name)
	if err != nil {
		return nil, err
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s is no private key for ECDSA", name)
	}
	return key, nil
}

// readPublicECKey reads a public key, or that of a certificate.
func readPublicECKey(name string) (*ecdsa.PublicKey, error) {
	der, err := readPEM(name)
	if err != nil {
		return nil, err
	}
	var public any
	if c, err := x509.ParseCertificate(der); err == nil {
		public = c.PublicKey
	} else if public, err = x509.ParsePKIXPublicKey(der); err != nil {
		return nil, fmt.Errorf("%s has neither a certificate nor a public key", name)
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s is no key for ECDSA", name)
	}
	return key, nil
}

// readPEM returns what is in the first block of a file, - for standard input, of whatever type that says it is.
func readPEM(name string) ([]byte, error) {
	data, err := readInput(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s is no PEM", name)
	}
	return block.Bytes, nil
}
