package passwords

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxPBKDF2 bounds the iterations of PBKDF2: about a second of one processor.
const maxPBKDF2 = 1_000_000

// pbkdf2Hash is what mosquitto_passwd writes since version 2.
type pbkdf2Hash struct {
	iterations int
	salt, key  []byte
}

// Check implements Hash.
func (h *pbkdf2Hash) Check(password []byte) bool {
	key, err := pbkdf2.Key(sha512.New, string(password), h.salt, h.iterations, len(h.key))
	return err == nil && subtle.ConstantTimeCompare(key, h.key) == 1
}

func parsePBKDF2(text string) (Hash, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 5 {
		return nil, errors.New("a PBKDF2 hash must have the form $7$ITERATIONS$SALT$HASH")
	}
	iterations, err := parseIterations(parts[2], 1, maxPBKDF2)
	if err != nil {
		return nil, err
	}
	salt, key, err := decodeSaltAndSHA512(parts[3], parts[4])
	if err != nil {
		return nil, err
	}
	return &pbkdf2Hash{iterations, salt, key}, nil
}

// sha512Hash is what mosquitto_passwd wrote before version 2. It is quick to try passwords on.
type sha512Hash struct{ salt, key []byte }

// Check implements Hash.
func (h *sha512Hash) Check(password []byte) bool {
	d := sha512.New()
	d.Write(password)
	d.Write(h.salt)
	return subtle.ConstantTimeCompare(d.Sum(nil), h.key) == 1
}

func parseSHA512(text string) (Hash, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 4 {
		return nil, errors.New("a SHA-512 hash must have the form $6$SALT$HASH, as mosquitto_passwd writes it")
	}
	salt, key, err := decodeSaltAndSHA512(parts[2], parts[3])
	if err != nil {
		return nil, err
	}
	return &sha512Hash{salt, key}, nil
}

func decodeSaltAndSHA512(saltText, keyText string) (salt, key []byte, err error) {
	salt, err1 := base64.StdEncoding.Strict().DecodeString(saltText)
	key, err2 := base64.StdEncoding.Strict().DecodeString(keyText)
	switch {
	case err1 != nil || err2 != nil:
		return nil, nil, errors.New("salt or hash is not base64")
	case len(salt) < 1 || len(salt) > 256 || len(key) != sha512.Size:
		return nil, nil, fmt.Errorf("the salt must have 1 to 256 bytes and the hash %d", sha512.Size)
	}
	return salt, key, nil
}

func parseIterations(text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("the number of iterations must be %d to %d", least, most)
	}
	return n, nil
}
