package passwords

import (
	"errors"
	"strings"
)

// Hash is something that a password can be checked with. Check takes the time that its parameters ask for.
type Hash interface {
	// Check tells whether the password is the right one. Hashes are compared in constant time.
	Check(password []byte) bool
}

// hashForms are the forms by how they begin.
var hashForms = []struct {
	prefix string
	parse  func(string) (Hash, error)
}{
	{"$argon2id$", parseArgon2},
	{"$2a$", parseBcrypt},
	{"$2b$", parseBcrypt},
	{"$2y$", parseBcrypt},
	{"$7$", parsePBKDF2},
	{"$6$", parseSHA512},
	{"$scram-sha-256$", parseVerifier},
}

// errForm says that a hash is in none of the known forms.
var errForm = errors.New("the hash has none of the known forms ($argon2id$, $2a$, $2b$, $2y$, $7$, $6$, $scram-sha-256$); " +
	"write the line with: vouchmq passwd")

// ParseHash reads a hash in one of the forms that the package comment lists. The error never repeats the text, which
// may be a password that stands there by mistake.
func ParseHash(text string) (Hash, error) {
	for _, f := range hashForms {
		if strings.HasPrefix(text, f.prefix) {
			return f.parse(text)
		}
	}
	return nil, errForm
}

func parseVerifier(text string) (Hash, error) {
	s, err := ParseSCRAM(text)
	if err != nil {
		return nil, err // a nil *SCRAM would not be a nil Hash
	}
	return s, nil
}
