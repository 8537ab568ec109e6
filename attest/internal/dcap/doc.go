// Package dcap parses and verifies the quotes of Intel's data center attestation primitives (DCAP): SGX
// quotes of version 3, and TDX quotes of versions 4 and 5.
//
// A quote is a statement of Intel's hardware about an enclave or a trust domain (TD), signed by an
// attestation key; the quoting enclave (QE) vouches for that key, the processor's PCK certificate for the
// quoting enclave, and Intel's root for the certificate. How current all of them are is said by collateral:
// TCB info, QE identity and revocation lists, which Intel signs and replaces every few weeks.
//
//   - [ParseQuote] reads a quote, strictly, and verifies nothing.
//   - [OpenTCBInfo], [OpenQEIdentity], [OpenRootCRL], [OpenPCKCRL] and [Documents.Open] verify collateral. Only they make the
//     types that a verifier accepts, so that nothing unsigned gets there.
//   - [Verifier.Appraise] verifies a quote in the order of Intel's quote verification library and returns a
//     [Report] of all that was found; [Report.Claims] is what the rest of this module sees of it.
//
// Intel's root key is pinned ([IntelRoot]). Another root can be made only with [NewRoot], which nothing but tests calls:
// a test sees to that.
//
// Sources: Intel SGX ECDSA Quote Library Reference (quote version 3), Intel TDX DCAP Quoting Library API
// (versions 4 and 5, appendix A), Intel SGX PCK Certificate and CRL Profile, Intel PCS API version 4, and
// the behaviour of Intel's quote verification library (QVL). Integers in quotes are little endian.
package dcap
