package atls

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
)

// Numbers of RFC 9849 (ECH) and RFC 9180 (HPKE).
const (
	echVersion     = 0xfe0d
	kemX25519      = 0x0020
	kdfHKDFSHA256  = 0x0001
	aeadAES128GCM  = 0x0001
	x25519Size     = 32
	maxECHListSize = 1024
)

const echPEMType = "VOUCHMQ ECH KEY"

// ECHKey is one generation of a server's key pair for Encrypted Client Hello.
type ECHKey struct {
	config  []byte // ECHConfig (RFC 9849, section 4), without the prefix of a list
	private []byte // X25519 scalar
}

// NewECHKey makes a key pair. The public name is what an observer sees; it must be a name of the server's
// certificate. Generations in use at the same time need different ids.
func NewECHKey(publicName string, id uint8) (*ECHKey, error) {
	if err := CheckServiceName(publicName); err != nil {
		return nil, fmt.Errorf("public name: %w", err)
	}
	if !strings.Contains(publicName, ".") { // crypto/tls would ignore such a configuration
		return nil, fmt.Errorf("public name %q needs at least two labels, like mqtt.example", publicName)
	}
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make ECH key: %w", err)
	}
	return &ECHKey{config: echConfig(id, private.PublicKey().Bytes(), publicName), private: private.Bytes()}, nil
}

func echConfig(id uint8, public []byte, publicName string) []byte {
	be := binary.BigEndian
	contents := []byte{id}
	contents = be.AppendUint16(contents, kemX25519)
	contents = be.AppendUint16(contents, uint16(len(public)))
	contents = append(contents, public...)
	contents = be.AppendUint16(contents, 4) // bytes of cipher suites
	contents = be.AppendUint16(contents, kdfHKDFSHA256)
	contents = be.AppendUint16(contents, aeadAES128GCM)
	// maximum_name_length is 0: with any other value Go 1.26 pads the inner hello in a way that tells the
	// length of the inner name.
	contents = append(contents, 0, uint8(len(publicName)))
	contents = append(contents, publicName...)
	contents = be.AppendUint16(contents, 0) // no extensions
	config := be.AppendUint16(nil, echVersion)
	config = be.AppendUint16(config, uint16(len(contents)))
	return append(config, contents...)
}

// ID returns the config_id of the generation.
func (k *ECHKey) ID() uint8 { return k.config[4] }

// PublicName returns the name that an observer sees.
func (k *ECHKey) PublicName() string {
	_, name, _ := parseECHConfig(k.config) // it was made or checked here
	return name
}

// Marshal returns the private key and its configuration as PEM.
func (k *ECHKey) Marshal() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: echPEMType, Bytes: append(append([]byte{}, k.private...), k.config...)})
}

// ParseECHKey reads what Marshal wrote.
func ParseECHKey(data []byte) (*ECHKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != echPEMType || len(rest) != 0 || len(block.Bytes) <= x25519Size {
		return nil, fmt.Errorf("ECH key: not one PEM block of type %q", echPEMType)
	}
	key := &ECHKey{private: block.Bytes[:x25519Size], config: block.Bytes[x25519Size:]}
	public, _, err := parseECHConfig(key.config)
	if err != nil {
		return nil, fmt.Errorf("ECH key: %w", err)
	}
	private, err := ecdh.X25519().NewPrivateKey(key.private)
	if err != nil || string(private.PublicKey().Bytes()) != string(public) {
		return nil, fmt.Errorf("ECH key: private key does not belong to the configuration")
	}
	return key, nil
}

// ECHConfigList returns the ECHConfigList that clients need, of the given generations, newest first.
func ECHConfigList(keys ...*ECHKey) []byte {
	var configs []byte
	for _, k := range keys {
		configs = append(configs, k.config...)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(configs))), configs...)
}

// CheckECHConfigList checks that list is an ECHConfigList in the one form that this package writes, and
// returns its first public name.
func CheckECHConfigList(list []byte) (publicName string, err error) {
	if len(list) < 2 || len(list) > maxECHListSize || int(binary.BigEndian.Uint16(list)) != len(list)-2 {
		return "", attest.Errorf(attest.ErrFormat, "ECH configuration list has a wrong length")
	}
	for rest := list[2:]; ; {
		if len(rest) < 4 {
			return "", attest.Errorf(attest.ErrFormat, "ECH configuration list is cut short")
		}
		size := 4 + int(binary.BigEndian.Uint16(rest[2:]))
		if size > len(rest) {
			return "", attest.Errorf(attest.ErrFormat, "ECH configuration list is cut short")
		}
		_, name, err := parseECHConfig(rest[:size])
		if err != nil {
			return "", err
		}
		if publicName == "" {
			publicName = name
		}
		if rest = rest[size:]; len(rest) == 0 {
			return publicName, nil
		}
	}
}

// parseECHConfig accepts exactly what echConfig writes: it takes out the parts that vary and writes it again.
func parseECHConfig(config []byte) (public []byte, publicName string, err error) {
	const fixed = 4 + 1 + 2 + 2 + x25519Size + 2 + 4 + 1 + 1
	if len(config) < fixed+2 {
		return nil, "", attest.Errorf(attest.ErrFormat, "ECH configuration is cut short")
	}
	id, public := config[4], config[9:9+x25519Size]
	publicName = string(config[fixed : len(config)-2])
	if err := CheckServiceName(publicName); err != nil {
		return nil, "", fmt.Errorf("ECH configuration: public name: %w", err)
	}
	if string(echConfig(id, public, publicName)) != string(config) {
		return nil, "", attest.Errorf(attest.ErrFormat, "ECH configuration is not of the form X25519, HKDF-SHA256, AES-128-GCM, maximum_name_length 0")
	}
	return public, publicName, nil
}

// echKeysForTLS returns the keys as crypto/tls wants them; the newest is sent to clients whose key is
// unknown.
func echKeysForTLS(keys []*ECHKey) []tls.EncryptedClientHelloKey {
	var out []tls.EncryptedClientHelloKey
	for i, k := range keys {
		out = append(out, tls.EncryptedClientHelloKey{Config: k.config, PrivateKey: k.private, SendAsRetry: i == 0})
	}
	return out
}
