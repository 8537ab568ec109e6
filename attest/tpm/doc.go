// Package tpm makes and verifies evidence of machines that are measured by a TPM 2.0.
//
// A TPM keeps digests of what a machine has loaded in its platform configuration registers (PCRs), and signs them with an
// attestation key (AK) that never leaves it. Evidence is such a quote (TPMS_ATTEST), its signature, the values of the PCRs, the public
// area of the AK, and optionally the event log of the firmware, in deterministic CBOR. A TPM signs at most 32 bytes of data on all machines, so
// the report data is [attest.ReportData.Short].
//
// A TPM alone is no TEE: it proves what has booted, not that nobody reads the memory. Whoever has the machine in hand may also
// listen on the wires to a discrete TPM.
//
// # The attestation key
//
// A quote does not show that its key is in a TPM: anybody can make a key and say so. Hence a policy names the AK (ak, the SHA-256 digest of its
// public area, which is its name without the first two bytes), or the CA that has certified it (ak_ca). That CA enrols a
// machine in four steps. The files between them are not secret:
//
//   - the machine says which endorsement key (EK) its TPM has, with the certificate of its maker, and which AK: [NewRequest]
//   - the owner checks the certificate, or the digest of the EK by hand, and encrypts a secret so that only a TPM with this EK
//     and this AK can read it: [Request.Challenge]
//   - the machine's TPM reads it (TPM2_ActivateCredential): [Answer]
//   - the owner compares it, and certifies the AK: [Pending.Certify]
//
// The certificate and that of its CA travel with evidence as endorsements.
//
// # Measurements
//
// "ak" and "ak_ca" are as above (ak_ca: SHA-384 of the CA's SubjectPublicKeyInfo), "pcr0" to "pcr23" the registers of the SHA-256 bank, and
// "pcr0_sha384" to "pcr23_sha384" those of the SHA-384 bank. Banks of SHA-1 are refused. [Attester.Measure] puts the digest of the broker's module into
// [ModulePCR].
//
// Sources: TCG, Trusted Platform Module Library, parts 2 and 3, revision 01.59; TCG PC Client Platform Firmware Profile 1.05, section 10;
// TCG EK Credential Profile 2.5.
package tpm
