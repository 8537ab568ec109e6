// Package dcaptest makes an Intel of its own for tests: a root, authorities, processors with PCK certificates,
// quotes of every version, and the collateral that goes with them, all properly signed under a test root.
//
// A [World] makes everything right. To test a fault, change a thing before it is signed, with the functions of
// [Quote] and [Collateral], or reissue a certificate with [World.Issue].
package dcaptest
