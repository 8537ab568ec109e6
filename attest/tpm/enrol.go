package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// Request is what a machine tells of its TPM. Nothing of it is proven.
type Request struct {
	EK            []byte           `cbor:"ek"`      // public area
	EKCertificate []byte           `cbor:"ek_cert"` // DER, of the maker of the TPM; nil if it has none
	AK            []byte           `cbor:"ak"`      // public area
	ekPublic      *tpm2.TPMTPublic // the EK once more
	akPublic      *public          // the AK once more
}

// Challenge is a secret that only the TPM with this EK and this AK can read.
type Challenge struct {
	AK      []byte `cbor:"ak"`      // digest
	EK      []byte `cbor:"ek"`      // digest
	Object  []byte `cbor:"object"`  // TPMS_ID_OBJECT
	Wrapped []byte `cbor:"wrapped"` // TPMS_ENCRYPTED_SECRET
}

// Response is a Challenge that was read.
type Response struct {
	AK     []byte `cbor:"ak"` // digest
	Secret []byte `cbor:"secret"`
}

// Pending is what the owner keeps until the answer comes. It is secret.
type Pending struct {
	Request []byte `cbor:"request"`
	Secret  []byte `cbor:"secret"`
}

// Titles of the files.
const (
	titleRequest   = "VOUCHMQ TPM REQUEST"
	titleChallenge = "VOUCHMQ TPM CHALLENGE"
	titleResponse  = "VOUCHMQ TPM ANSWER"
	titlePending   = "VOUCHMQ TPM PENDING"
)

const (
	secretSize  = 32
	maxFileSize = 32 << 10
)

func encode(title string, v any) ([]byte, error) {
	b, err := dcbor.Encode(v)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: title, Bytes: b}), nil
}

func decode(title string, text []byte, v any) error {
	if len(text) > maxFileSize {
		return fmt.Errorf("it has %d bytes, at most %d are read", len(text), maxFileSize)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != title || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return fmt.Errorf("it is not a file with one %q", title)
	}
	return dcbor.Decode(block.Bytes, v)
}

// NewRequest asks the TPM at a path ("" is Device) for its keys, and for the certificate of its EK.
func NewRequest(ctx context.Context, device string) (*Request, error) {
	if device == "" {
		device = Device
	}
	return use(ctx, deviceAt(device), request)
}

func request(tpm transport.TPM) (*Request, error) {
	profile, certificate, err := findEK(tpm)
	if err != nil {
		return nil, err
	}
	r := &Request{EKCertificate: certificate}
	public := func(key *object) ([]byte, error) { return key.public, nil }
	if r.EK, err = with(tpm, endorsementKey, profile.template, public); err != nil {
		return nil, err
	}
	if r.AK, err = with(tpm, attestationKey, akTemplate(), public); err != nil {
		return nil, err
	}
	return r, r.check()
}

// findEK returns the first kind of EK that has a certificate, or else the first.
func findEK(tpm transport.TPM) (ekProfile, []byte, error) {
	profiles := ekProfiles()
	for _, p := range profiles {
		data, err := readNV(tpm, p.nv)
		if err != nil {
			return p, nil, fmt.Errorf("read the certificate of the endorsement key: %w", err)
		}
		if data == nil {
			continue
		}
		var certificate asn1.RawValue // some makers fill the rest of the index with other bytes
		if _, err := asn1.Unmarshal(data, &certificate); err != nil {
			return p, nil, fmt.Errorf("index %#x, where the certificate of the endorsement key should be: %w", p.nv, err)
		}
		return p, certificate.FullBytes, nil
	}
	return profiles[0], nil, nil
}

// ParseRequest reads a request. Its keys are of the kinds that they should be; whether they are in a TPM is not known.
func ParseRequest(text []byte) (*Request, error) {
	r := new(Request)
	if err := decode(titleRequest, text, r); err != nil {
		return nil, fmt.Errorf("request of a TPM: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("request of a TPM: %w", err)
	}
	return r, nil
}

// check reads the keys.
func (r *Request) check() (err error) {
	if r.akPublic, err = parsePublic(r.AK); err != nil {
		return fmt.Errorf("attestation key: %w", err)
	}
	if !slices.ContainsFunc(ekProfiles(), func(p ekProfile) bool { return p.made(r.EK) }) {
		return errors.New("endorsement key: it is not of one of the kinds that all TPMs have (templates L-1 and L-2 of the TCG)")
	}
	if r.ekPublic, err = tpm2.Unmarshal[tpm2.TPMTPublic](r.EK); err != nil {
		return fmt.Errorf("endorsement key: %w", err)
	}
	return nil
}

// Encode returns the request as a file.
func (r *Request) Encode() ([]byte, error) { return encode(titleRequest, r) }

// HardwareID names the machine by the EK of its TPM, as tools for TPMs do: the digits are those of the key's name, without the first four.
func (r *Request) HardwareID() string { return hardwareOf(r.EK) }

func hardwareOf(ek []byte) string {
	digest := KeyDigest(ek)
	return string(attest.TPM) + ":" + hex.EncodeToString(digest[:])
}

// ErrNoCertificate says that a TPM has no certificate of its maker.
var ErrNoCertificate = errors.New("the TPM has no certificate of its maker")

// VerifyEK checks that the EK is of a TPM of one of the makers, whose certificates, root or not, are the roots.
func (r *Request) VerifyEK(roots *x509.CertPool, now time.Time) error {
	if r.EKCertificate == nil {
		return ErrNoCertificate
	}
	c, err := x509.ParseCertificate(r.EKCertificate)
	if err != nil {
		return attest.Errorf(attest.ErrFormat, "certificate of the endorsement key: %w", err)
	}
	key, err := tpm2.Pub(*r.ekPublic)
	if err != nil {
		return attest.Errorf(attest.ErrFormat, "endorsement key: %w", err)
	}
	own, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(c.PublicKey) {
		return attest.Errorf(attest.ErrSignature, "certificate of the endorsement key: it is of another key")
	}
	if c.IsCA || (len(c.UnknownExtKeyUsage)+len(c.ExtKeyUsage) > 0 && !hasUsage(c, ekUsage)) {
		return attest.Errorf(attest.ErrSignature, "certificate of the endorsement key: it is for something else")
	}
	// The subject stands in a critical subjectAltName of a form that crypto/x509 does not read (EK Credential Profile, 3.1.2). It says of which
	// model the TPM is, which nobody here asks.
	subjectAltName := asn1.ObjectIdentifier{2, 5, 29, 17}
	c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions, subjectAltName.Equal)
	_, err = c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return attest.Errorf(attest.ErrSignature, "certificate of the endorsement key: %w", err)
	}
	return nil
}

// Challenge makes a secret, and encrypts it for the TPM with these keys (TPM2_MakeCredential). The EK must have been verified.
func (r *Request) Challenge(random io.Reader) (*Challenge, *Pending, error) {
	secret := make([]byte, secretSize)
	if _, err := io.ReadFull(random, secret); err != nil {
		return nil, nil, err
	}
	ek, err := tpm2.ImportEncapsulationKey(r.ekPublic)
	if err != nil {
		return nil, nil, fmt.Errorf("endorsement key: %w", err)
	}
	c := &Challenge{AK: digestOf(r.AK), EK: digestOf(r.EK)}
	if c.Object, c.Wrapped, err = tpm2.CreateCredential(random, ek, name(r.AK), secret); err != nil {
		return nil, nil, fmt.Errorf("make the challenge: %w", err)
	}
	text, err := r.Encode()
	return c, &Pending{Request: text, Secret: secret}, err
}

// name is what a TPM calls a key: the algorithm, and the digest of the public area by it (part 1, 16).
func name(public []byte) []byte {
	r := &reader{rest: public}
	r.u16()
	alg := r.u16()
	hash, _ := hashOf(alg) // was checked with the rest
	h := hash.New()
	h.Write(public)
	return h.Sum([]byte{byte(alg >> 8), byte(alg)})
}

func digestOf(public []byte) []byte {
	d := KeyDigest(public)
	return d[:]
}

// Encode returns the challenge as a file.
func (c *Challenge) Encode() ([]byte, error) { return encode(titleChallenge, c) }

// ParseChallenge reads a challenge.
func ParseChallenge(text []byte) (*Challenge, error) {
	c := new(Challenge)
	if err := decode(titleChallenge, text, c); err != nil {
		return nil, fmt.Errorf("challenge of an owner: %w", err)
	}
	return c, nil
}

// ErrOtherMachine says that a challenge is for another TPM.
var ErrOtherMachine = errors.New("the challenge is for another TPM, or for one that was cleared since")

// Answer has the TPM at a path ("" is Device) read a challenge (TPM2_ActivateCredential).
func Answer(ctx context.Context, device string, c *Challenge) (*Response, error) {
	if device == "" {
		device = Device
	}
	return use(ctx, deviceAt(device), func(tpm transport.TPM) (*Response, error) { return c.answer(tpm) })
}

func (c *Challenge) answer(tpm transport.TPM) (*Response, error) {
	for _, p := range ekProfiles() {
		answer, err := with(tpm, endorsementKey, p.template, func(ek *object) (*Response, error) {
			if !bytes.Equal(digestOf(ek.public), c.EK) {
				return nil, nil // of the other kind
			}
			return with(tpm, attestationKey, akTemplate(), func(ak *object) (*Response, error) {
				if !bytes.Equal(digestOf(ak.public), c.AK) {
					return nil, ErrOtherMachine
				}
				return c.activate(tpm, ek, ak)
			})
		})
		if err != nil || answer != nil {
			return answer, err
		}
	}
	return nil, ErrOtherMachine
}

func (c *Challenge) activate(tpm transport.TPM, ek, ak *object) (*Response, error) {
	r, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: ak.Handle, Name: ak.Name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: ek.Handle, Name: ek.Name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, endorsed)},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.Object},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.Wrapped},
	}.Execute(tpm)
	if err != nil {
		return nil, fmt.Errorf("read the challenge: %w", err)
	}
	return &Response{AK: c.AK, Secret: r.CertInfo.Buffer}, nil
}

// endorsed satisfies the policy of EKs: to know the password of the endorsement hierarchy, which is empty unless somebody has set it.
func endorsed(tpm transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session, NonceTPM: nonce,
	}.Execute(tpm)
	return err
}

// Encode returns the answer as a file.
func (r *Response) Encode() ([]byte, error) { return encode(titleResponse, r) }

// ParseResponse reads an answer.
func ParseResponse(text []byte) (*Response, error) {
	r := new(Response)
	if err := decode(titleResponse, text, r); err != nil {
		return nil, fmt.Errorf("answer of a TPM: %w", err)
	}
	return r, nil
}

// Encode returns what is to be kept as a file, which nobody else may read.
func (p *Pending) Encode() ([]byte, error) { return encode(titlePending, p) }

// ParsePending reads what was kept.
func ParsePending(text []byte) (*Pending, error) {
	p := new(Pending)
	if err := decode(titlePending, text, p); err != nil {
		return nil, fmt.Errorf("challenge that was given out: %w", err)
	}
	if len(p.Secret) != secretSize {
		return nil, fmt.Errorf("challenge that was given out: its secret has %d bytes, not %d", len(p.Secret), secretSize)
	}
	return p, nil
}

// ErrWrongAnswer says that an answer is not that of the TPM which the challenge is for.
var ErrWrongAnswer = errors.New("the answer is not that of the TPM which the challenge is for")

// Certify issues the certificate of the AK, if the answer is right. It returns it with that of the CA (PEM), for the broker's
// configuration.
func (p *Pending) Certify(r *Response, ca *x509.Certificate, signer crypto.Signer, now time.Time, validity time.Duration) ([]byte, *Request, error) {
	request, err := ParseRequest(p.Request)
	if err != nil {
		return nil, nil, err
	}
	if len(p.Secret) != secretSize || subtle.ConstantTimeCompare(r.Secret, p.Secret) != 1 || !bytes.Equal(r.AK, digestOf(request.AK)) {
		return nil, nil, ErrWrongAnswer
	}
	der, err := issue(rand.Reader, ca, signer, request, now, validity)
	if err != nil {
		return nil, nil, fmt.Errorf("issue the certificate of the attestation key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: ca.Raw})...), request, nil
}
