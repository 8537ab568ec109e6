package auth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// maxKeys bounds the keys of a set: a token that does not name its key is tried with each.
const maxKeys = 64

// secretKey is the key of HS256 and such.
type secretKey []byte

func (k secretKey) find(*jwt.Token) (any, error) { return []byte(k), nil }

func readSecret(path string) (keys, error) {
	text, err := readFile(path, 4096)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) < 32 {
		return nil, fmt.Errorf("secret: %s has %d bytes; it needs at least 32, that nobody can guess it", path, len(text))
	}
	return secretKey(text), nil
}

// plainKeys have no names. Each is tried.
type plainKeys []jwt.VerificationKey

func (k plainKeys) find(*jwt.Token) (any, error) { return jwt.VerificationKeySet{Keys: k}, nil }

// namedKeys are a JWK set. A token says which of them it means, or each is tried.
type namedKeys struct{ keyfunc.Keyfunc }

func (k *namedKeys) find(t *jwt.Token) (any, error) { return k.Keyfunc.Keyfunc(t) }

// readKeys reads a file of keys in PEM or JSON.
func readKeys(path string) (keys, error) {
	text, err := readFile(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	var k keys
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		k, err = parseJWKs(text)
	} else {
		k, err = parsePEM(text)
	}
	if err != nil {
		return nil, fmt.Errorf("keys: %s: %w", path, err)
	}
	return k, nil
}

func parsePEM(text []byte) (keys, error) {
	var found plainKeys
	for rest := text; ; {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		begin := len(text) - len(rest) + max(0, bytes.Index(rest, []byte("-----BEGIN")))
		line := 1 + bytes.Count(text[:begin], []byte("\n"))
		rest = after
		key, err := publicKey(block)
		if err != nil {
			return nil, fmt.Errorf("the block %s from line %d on: %w", block.Type, line, err)
		}
		found = append(found, key)
	}
	if len(found) == 0 || len(found) > maxKeys {
		return nil, fmt.Errorf("it has %d keys in PEM; it must have 1 to %d", len(found), maxKeys)
	}
	return found, nil
}

func publicKey(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	}
	return nil, errors.New("it is neither a public key nor a certificate")
}

// parseJWKs reads a JWK set, or one JWK. Keys that are not for signatures of public keys are left out: secrets, keys
// for encryption, and kinds that are not known here.
func parseJWKs(text []byte) (keys, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("it is not a JWK set in JSON")
	}
	if set.Keys == nil {
		var one jwkset.JWKMarshal
		if err := json.Unmarshal(text, &one); err != nil {
			return nil, errors.New("it is neither a JWK set nor a JWK in JSON")
		}
		set.Keys = append(set.Keys, one)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys; at most %d", len(set.Keys), maxKeys)
	}
	store, ctx := jwkset.NewMemoryStorage(), context.Background()
	n := 0
	for _, m := range set.Keys {
		key, ok := usable(m)
		if !ok {
			continue
		}
		n++
		if err := store.KeyWrite(ctx, key); err != nil {
			return nil, err
		}
	}
	if n == 0 {
		return nil, errors.New("it has no public key for signatures")
	}
	k, err := keyfunc.New(keyfunc.Options{Ctx: ctx, Storage: store})
	return &namedKeys{k}, err
}

func usable(m jwkset.JWKMarshal) (jwkset.JWK, bool) {
	if m.USE != "" && m.USE != jwkset.UseSig {
		return jwkset.JWK{}, false
	}
	key, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return jwkset.JWK{}, false
	}
	_, secret := key.Key().([]byte) // the library leaves secrets out by itself; nothing must depend on that
	return key, !secret
}
