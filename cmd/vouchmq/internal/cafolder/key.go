package cafolder

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// ErrPassphrase says that a key cannot be read with the passphrase that was given.
var ErrPassphrase = errors.New("wrong passphrase")

const maxKeyFile = 64 << 10

// seal encrypts a key with a passphrase, so that the age program could open it, too. workFactor is that of scrypt, as a power
// of two; 0 is age's own choice.
func seal(key, passphrase []byte, workFactor int) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	if workFactor != 0 {
		recipient.SetWorkFactor(workFactor)
	}
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, fmt.Errorf("encrypt the key: %w", err)
	}
	_, err = w.Write(key)
	if err := errors.Join(err, w.Close(), armored.Close()); err != nil {
		return nil, fmt.Errorf("encrypt the key: %w", err)
	}
	return out.Bytes(), nil
}

func unseal(file, passphrase []byte) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, fmt.Errorf("%w: the key needs one", ErrPassphrase)
	}
	identity, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(file)), identity)
	var wrong *age.NoIdentityMatchError
	switch {
	case errors.As(err, &wrong):
		return nil, fmt.Errorf("%w: the key cannot be read with it", ErrPassphrase)
	case err != nil:
		return nil, fmt.Errorf("decrypt the key: %w", err)
	}
	key, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("decrypt the key: %w", err)
	}
	return key, nil
}
