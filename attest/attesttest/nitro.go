package attesttest

import (
	"crypto/elliptic"
	"crypto/rand"
	"slices"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/nitro"
)

// inNitro makes an attestation document, whose chain is as long as those of AWS: root, region, zone, instance, enclave, all on P-384.
func inNitro() Evidence {
	const module = "i-0123456789abcdef0-enc0123456789abcdef"
	root := issue(authorityTemplate("root"), newKey(elliptic.P384()), nil)
	by, bundle := root, [][]byte{root.certificate.Raw}
	for _, name := range []string{"region", "zone", "instance"} {
		by = issue(authorityTemplate(name), newKey(elliptic.P384()), by)
		bundle = append(bundle, by.certificate.Raw)
	}
	enclave := issue(template(module), newKey(elliptic.P384()), by)
	pcrs := map[uint8][]byte{}
	for i := range uint8(16) {
		pcrs[i] = slices.Repeat([]byte{i}, 48)
	}
	payload := must(cbor.Marshal(map[string]any{
		"module_id": module, "timestamp": now.UnixMilli(), "digest": "SHA384", "pcrs": pcrs, "certificate": enclave.certificate.Raw, "cabundle": bundle,
		"public_key": nil, "user_data": reportData[:], "nonce": nil,
	}))
	m := cose.UntaggedSign1Message{Payload: payload, Headers: cose.Headers{Protected: cose.ProtectedHeader{}}}
	m.Headers.Protected.SetAlgorithm(cose.AlgorithmES384)
	must(0, m.Sign(rand.Reader, nil, must(cose.NewSigner(cose.AlgorithmES384, enclave.key))))
	return Evidence{
		Name: "Nitro", Quote: attest.Quote{Platform: attest.Nitro, Data: must(m.MarshalCBOR())},
		Verifier: nitro.NewVerifier().WithRoot(root.certificate), Now: now,
	}
}
