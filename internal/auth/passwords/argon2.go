package passwords

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Bounds of Argon2id, for what is read.
const (
	maxArgon2Memory  = 256 << 10 // KiB
	maxArgon2Time    = 16        // passes
	maxArgon2Threads = 16
	maxArgon2Work    = 1 << 20 // KiB times passes: about a second of one processor
)

// Argon2Params are what a hash of Argon2id costs.
type Argon2Params struct {
	Memory  uint32 // KiB
	Time    uint32 // passes over the memory
	Threads uint8
}

// DefaultArgon2 is the second recommendation of RFC 9106 (section 4) with one thread: 64 MiB, three passes.
var DefaultArgon2 = Argon2Params{Memory: 64 << 10, Time: 3, Threads: 1}

// Check says what is wrong with the parameters, if they are weaker than the algorithm allows or dearer than a broker
// should pay for each login.
func (p Argon2Params) Check() error {
	switch {
	case p.Time < 1 || p.Time > maxArgon2Time:
		return fmt.Errorf("argon2id with t=%d: it must be 1 to %d passes", p.Time, maxArgon2Time)
	case p.Threads < 1 || p.Threads > maxArgon2Threads:
		return fmt.Errorf("argon2id with p=%d: it must be 1 to %d threads", p.Threads, maxArgon2Threads)
	case p.Memory < 8*uint32(p.Threads) || p.Memory > maxArgon2Memory:
		return fmt.Errorf("argon2id with m=%d: it must be %d to %d KiB", p.Memory, 8*p.Threads, maxArgon2Memory)
	case p.Memory*p.Time > maxArgon2Work:
		return fmt.Errorf("argon2id with m=%d,t=%d: a login would take too long; m times t must be at most %d", p.Memory, p.Time, maxArgon2Work)
	}
	return nil
}

type argon2Hash struct {
	params    Argon2Params
	salt, key []byte
}

// Check implements Hash.
func (h *argon2Hash) Check(password []byte) bool {
	key := argon2.IDKey(password, h.salt, h.params.Time, h.params.Memory, h.params.Threads, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// HashArgon2 makes a hash of a password, with a fresh salt of 16 bytes.
func HashArgon2(password []byte, p Argon2Params) (string, error) {
	if err := p.Check(); err != nil {
		return "", err
	}
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	key := argon2.IDKey(password, salt, p.Time, p.Memory, p.Threads, 32)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.Memory, p.Time, p.Threads,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

var errArgon2Form = errors.New("an argon2id hash must have the form $argon2id$v=19$m=KIB,t=PASSES,p=THREADS$SALT$HASH, in this order")

func parseArgon2(text string) (Hash, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, errArgon2Form
	}
	params, err := parseArgon2Params(parts[3])
	if err != nil {
		return nil, err
	}
	salt, err1 := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	key, err2 := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err1 != nil || err2 != nil {
		return nil, errArgon2Form
	}
	if len(salt) < 8 || len(salt) > 64 || len(key) < 16 || len(key) > 64 {
		return nil, errors.New("argon2id: the salt must have 8 to 64 bytes and the hash 16 to 64")
	}
	return &argon2Hash{params, salt, key}, nil
}

func parseArgon2Params(text string) (Argon2Params, error) {
	var values [3]uint32
	fields := strings.Split(text, ",")
	if len(fields) != len(values) {
		return Argon2Params{}, errArgon2Form
	}
	for i, name := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(fields[i], name)
		n, err := strconv.ParseUint(digits, 10, 31)
		if !ok || err != nil {
			return Argon2Params{}, errArgon2Form
		}
		values[i] = uint32(n)
	}
	if values[2] > maxArgon2Threads { // before it is cut to eight bits
		values[2] = maxArgon2Threads + 1
	}
	p := Argon2Params{Memory: values[0], Time: values[1], Threads: uint8(values[2])}
	return p, p.Check()
}
