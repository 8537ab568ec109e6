// Package attest says what a piece of attestation evidence is, binds it to one connection, and verifies it.
//
// The words are those of RFC 9334 (RATS). An [Attester] runs inside a trusted execution environment (TEE)
// and turns 64 bytes of report data into a quote. A [Verifier] runs anywhere and checks the quote of one
// platform. This package holds everything in between, once for all platforms:
//
//   - [Claims], the claims-set that the report data commits to: the binding to one connection ([Binding])
//     and who the attester says it is ([Identity]: module, configuration, runtime);
//   - [ReportDataFor], which hashes a claims-set, through a Merkle tree shape that lets one quote serve many
//     connections, to the 64 bytes that the hardware signs;
//   - [Evidence], a CMW collection (RFC 9999) of claims, quote and batch proof, as it travels;
//   - [Make], which makes evidence, and [Registry.Verify], which verifies it;
//   - [Batcher], which makes evidence for many who ask at the same time with one quote: hardware is slow, and makes one
//     quote at a time;
//   - [Memory], which verifies a quote that many share once, for whoever verifies many of them.
//
// The one rule that matters most is in the shape of the calls: a verifier never trusts what the peer says
// about the connection. It recomputes the binding from its own state, and takes from the peer only what it
// could not know (identity, blinding and proof). The comparison of the report data happens in one place,
// in [Registry.Verify], in constant time, over all bytes, for every platform; report data of zeros only is
// refused whatever was expected.
//
// Verified evidence yields [Facts]. Whether those facts are good enough is a question for a policy
// (package attest/policy), not for this package. Failures are told apart by their [Kind], with errors.Is.
//
// Nothing here reads a clock: time is an argument.
package attest
