// Package server starts and stops a whole broker: the core in its engine, the transport with its listeners,
// and attested TLS in front of them.
//
//	Config ── Start ──> Server: listeners open ── Reload ──> another Config ── Shutdown ──> all told, flushed, closed
//
// A [Config] is complete in itself: keys, certificate, policy and module are values in it, not paths. Two ways
// lead to one:
//
//   - [Open] reads the files that package settings names, for `vouchmq serve`. A [Keeper] does so again when
//     somebody asks for it, or when certificates change.
//   - [Development] is what `vouchmq serve` runs without any file: a plain and an attested listener on the
//     loopback interface, a simulated TEE, and rules that let everybody do everything.
//
// Both keep keys and certificates in a state folder ([OpenState]), and make there what is missing.
//
// # What is attested
//
// The claims in evidence name the module (SHA-384 of its bytes) and the configuration: SHA-384 of
// [Config.Canonical], which has the owner's key, the listeners and the policy. Addresses are not part of it:
// they are the host's, who may map them as it likes. Whoever pins the configuration knows which listeners
// exist, which of them demand evidence, and who may do what.
package server
