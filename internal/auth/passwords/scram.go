package passwords

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/xdg-go/scram"
)

// Iterations of SCRAM. The least is that of RFC 7677 (section 4); the client pays, the broker only once for each
// password that it makes.
const (
	MinSCRAMIterations     = 4096
	DefaultSCRAMIterations = 15_000
	MaxSCRAMIterations     = 1_000_000
)

// SCRAM is a verifier for SCRAM-SHA-256. Whoever has it cannot log in with it, but can pose as the broker to its user.
type SCRAM struct{ scram.StoredCredentials }

// Check implements Hash: the verifier can judge a password as well.
func (s *SCRAM) Check(password []byte) bool {
	client, err := scram.SHA256.NewClient("", string(password), "")
	if err != nil {
		return false
	}
	got, err := client.GetStoredCredentialsWithError(s.KeyFactors)
	return err == nil && subtle.ConstantTimeCompare(got.StoredKey, s.StoredKey) == 1
}

// HashSCRAM makes a verifier for a password, with a fresh salt of 16 bytes. A password that SASLprep (RFC 4013) does
// not allow is an error.
func HashSCRAM(password []byte, iterations int) (string, error) {
	if iterations < MinSCRAMIterations || iterations > MaxSCRAMIterations {
		return "", fmt.Errorf("SCRAM needs %d to %d iterations, not %d", MinSCRAMIterations, MaxSCRAMIterations, iterations)
	}
	client, err := scram.SHA256.NewClient("", string(password), "")
	if err != nil {
		return "", errors.New("the password has characters that SCRAM does not allow (RFC 4013)")
	}
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iterations})
	if err != nil {
		return "", fmt.Errorf("make a SCRAM verifier: %w", err)
	}
	return (&SCRAM{stored}).String(), nil
}

// String gives the verifier as it stands in a file.
func (s *SCRAM) String() string {
	b64 := base64.StdEncoding
	return fmt.Sprintf("$scram-sha-256$%d$%s$%s$%s", s.Iters, b64.EncodeToString([]byte(s.Salt)),
		b64.EncodeToString(s.StoredKey), b64.EncodeToString(s.ServerKey))
}

// ParseSCRAM reads a verifier.
func ParseSCRAM(text string) (*SCRAM, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[1] != "scram-sha-256" {
		return nil, errors.New("a SCRAM verifier must have the form $scram-sha-256$ITERATIONS$SALT$STOREDKEY$SERVERKEY")
	}
	iterations, err := parseIterations(parts[2], MinSCRAMIterations, MaxSCRAMIterations)
	if err != nil {
		return nil, err
	}
	var values [3][]byte
	for i := range values {
		if values[i], err = base64.StdEncoding.Strict().DecodeString(parts[3+i]); err != nil {
			return nil, errors.New("salt or keys of the SCRAM verifier are not base64")
		}
	}
	if n := len(values[0]); n < 8 || n > 64 || len(values[1]) != sha256.Size || len(values[2]) != sha256.Size {
		return nil, fmt.Errorf("the salt of a SCRAM verifier must have 8 to 64 bytes, its keys %d", sha256.Size)
	}
	return &SCRAM{scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(values[0]), Iters: iterations},
		StoredKey:  values[1], ServerKey: values[2],
	}}, nil
}
