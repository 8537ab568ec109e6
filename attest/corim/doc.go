// Package corim writes identities of a policy as a CoRIM (Concise Reference Integrity Manifest, draft-ietf-rats-corim-11), and reads what it writes:
// reference values can go to other verifiers, and come from those who measure.
//
// The subset, of which everything else is refused:
//
//   - A CoRIM (tag 501) has a text as its id and CoMIDs (tag 506) as its tags; no CoSWID, CoTL, dependent RIMs, profile, validity and entities.
//   - A CoMID stands for one identity; its tag id is the identity's name. Of the triples it has reference values (0) and attestation keys (3).
//   - An environment is a class with vendor "vouchmq" and a model. The model is a platform ("sgx", "tdx", ...) for one entry of any_of, or "program" for
//     what does not depend on the platform. A number, layer (3), counts the entries of any_of from 0.
//   - A measurement has a key of text, which is that of the policy file, and one value: digests (2) with SHA-256 (1), SHA-384 (7) or SHA-512 (8), for
//     values of these lengths; a security version (1), exact (tag 552) or least (tag 553); integrity registers (14), for pcrs; or a name (11), for words.
//     Several measurements with the same key are alternatives.
//   - An attestation key is the thumbprint of a key (tag 557): ak, cpak, and the key of a simulated TEE.
//
// Encoding is deterministic CBOR. Signed, it is a COSE_Sign1 message (tag 18, ES256 or ES384) of content type application/rim+cbor, without the header
// corim-meta and without external data. Rules of a policy have no place in a CoRIM.
//
// What the draft leaves to implementations, what a measurement key of text means, is as above: another verifier has to be told.
package corim
