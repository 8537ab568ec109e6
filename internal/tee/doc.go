// Package tee finds the TEE that a program runs in, and opens it to attest with: the one that it was told of, or the best that is
// there. Brokers and clients attest with the same.
package tee
