package tpm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// akTemplate makes the AK: a key on P-256 that signs only what the TPM has made. The same TPM makes the same key of it each time, until
// its owner clears it; nothing is to be kept.
func akTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: []byte("vouchmq attestation key, form 01")}, // 32 bytes, and other than those of others
			Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)},
		}),
	}
}

// object is a key that is loaded in a TPM.
type object struct {
	tpm2.NamedHandle
	public []byte // TPMT_PUBLIC
}

// primary makes a primary key in the endorsement hierarchy, which the owner of the machine cannot take the name of.
func primary(tpm transport.TPM, template tpm2.TPMTPublic) (*object, error) {
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(tpm)
	if err != nil {
		return nil, err
	}
	return &object{tpm2.NamedHandle{Handle: r.ObjectHandle, Name: r.Name}, r.OutPublic.Bytes()}, nil
}

// flush makes room for the next: a TPM has three places for keys.
func (o *object) flush(tpm transport.TPM) error {
	_, err := tpm2.FlushContext{FlushHandle: o.Handle}.Execute(tpm)
	return err
}

// with makes a primary key for what is done with it.
func with[T any](tpm transport.TPM, what string, template tpm2.TPMTPublic, do func(*object) (T, error)) (value T, err error) {
	key, err := primary(tpm, template)
	if err != nil {
		return value, fmt.Errorf("make the %s key: %w", what, err)
	}
	defer func() { err = errors.Join(err, key.flush(tpm)) }()
	return do(key)
}

const (
	attestationKey = "attestation"
	endorsementKey = "endorsement"
)

// An ekProfile is a kind of endorsement key (TCG EK Credential Profile, 2.2.1.4 and B.3).
type ekProfile struct {
	template tpm2.TPMTPublic
	nv       tpm2.TPMHandle // index of its certificate
}

// ekProfiles are the kinds that a TPM may have the certificate of: L-1 and L-2, those of which all TPMs have one.
func ekProfiles() []ekProfile {
	const rsaCertificate, eccCertificate = 0x01c00002, 0x01c0000a
	return []ekProfile{{tpm2.RSAEKTemplate, rsaCertificate}, {tpm2.ECCEKTemplate, eccCertificate}}
}

// made reports whether a public area is one that a TPM makes of the template: all but the key itself, at its end, is the same.
func (p *ekProfile) made(public []byte) bool {
	template := tpm2.Marshal(p.template)
	key := 2 + 256 // TPM2B_PUBLIC_KEY_RSA
	if p.template.Type == tpm2.TPMAlgECC {
		key = 2 * (2 + 32) // TPMS_ECC_POINT
	}
	return len(public) == len(template) && bytes.Equal(public[:len(public)-key], template[:len(template)-key])
}

// readNV reads an index of the TPM's memory that everybody may read, nil if there is none.
func readNV(tpm transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	const most, chunk = 8 << 10, 512 // bytes; TPMs give at least 512 at a time
	r, err := tpm2.NVReadPublic{NVIndex: index}.Execute(tpm)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	public, err := r.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	if public.DataSize > most {
		return nil, fmt.Errorf("index %#x has %d bytes, at most %d are read", index, public.DataSize, most)
	}
	var data []byte
	for len(data) < int(public.DataSize) {
		part, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: r.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: r.NVName},
			Size:       min(chunk, public.DataSize-uint16(len(data))), Offset: uint16(len(data)),
		}.Execute(tpm)
		if err != nil {
			return nil, err
		}
		if len(part.Data.Buffer) == 0 {
			return nil, fmt.Errorf("index %#x ends after %d of %d bytes", index, len(data), public.DataSize)
		}
		data = append(data, part.Data.Buffer...)
	}
	return data, nil
}
