package dcap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"

	"github.com/vouchmq/vouchmq/attest/internal/links"
)

// intelRootKey is the public key of the Intel SGX Root CA, valid 2018-05-21 to 2049-12-31, as an uncompressed
// point. SHA-256 of the certificate: 44A0196B2B99F889B8E149E95B807A350E7424964399E885A7CBB8CCFAB674D3.
const intelRootKey = "04" +
	"0ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f5" +
	"67918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394"

// Root is a public key that chains must end in. The zero Root accepts none. A Root and its copies remember which authorities they
// have found below it.
type Root struct {
	key      *ecdsa.PublicKey
	verified *links.Memory
}

// IntelRoot returns Intel's root.
func IntelRoot() Root {
	point, err := hex.DecodeString(intelRootKey)
	if err != nil {
		return Root{}
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return Root{}
	}
	return Root{key, links.New()}
}

// NewRoot returns another root, for tests. Nothing else may call it.
func NewRoot(key *ecdsa.PublicKey) Root { return Root{key, links.New()} }

func (r Root) is(key any) bool {
	have, ok := key.(*ecdsa.PublicKey)
	return ok && r.key != nil && r.key.Equal(have)
}
