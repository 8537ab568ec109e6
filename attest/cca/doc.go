// Package cca makes and verifies attestation tokens of the Arm Confidential Compute Architecture.
//
// A token has two parts, each a COSE_Sign1 message (RFC 9052) over claims as in EAT (RFC 9711). The realm token tells of the
// realm: its initial measurement (RIM), four extensible measurements (REM), and the challenge, which is VouchMQ's report data. It
// is signed by the realm attestation key (RAK), which the realm management monitor has made. The platform token tells of the machine,
// and has the digest of the RAK where others have a nonce; it is signed by the CCA platform attestation key (CPAK).
//
// There are no certificates: who makes machines endorses the CPAK of each, by telling which it is. The key travels with the token
// as an endorsement (DER, SubjectPublicKeyInfo), and is reported as the measurement "cpak", the SHA-384 digest of these bytes. The
// verifier proves that this key has signed; a policy says which keys it believes, and one without is not valid.
//
// A machine whose security lifecycle is not "secured" can be read by whoever debugs it, and is reported as in debug mode.
//
// Sources: Arm, Realm Management Monitor specification (DEN0137), section "Attestation"; draft-ffm-rats-cca-token.
package cca
