package passwords

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/bcrypt"
)

// maxBcryptCost is about a second of one processor.
const maxBcryptCost = 14

type bcryptHash []byte

// Check implements Hash. Of a password bcrypt regards the first 72 bytes only.
func (h bcryptHash) Check(password []byte) bool {
	return bcrypt.CompareHashAndPassword(h, password) == nil
}

func parseBcrypt(text string) (Hash, error) {
	cost, err := bcrypt.Cost([]byte(text))
	if err != nil || len(text) != 60 || !bcryptDigits(text[7:]) {
		return nil, errors.New("a bcrypt hash must have the form $2b$COST$ and then 53 characters of salt and hash")
	}
	if cost > maxBcryptCost {
		return nil, fmt.Errorf("bcrypt with cost %d: a login would take too long; at most %d", cost, maxBcryptCost)
	}
	return bcryptHash(text), nil
}

// bcryptDigits tells whether s is of the characters that bcrypt writes salts and hashes in.
func bcryptDigits(s string) bool {
	for _, c := range s {
		if (c < '.' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
