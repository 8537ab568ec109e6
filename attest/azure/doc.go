// Package azure makes and verifies evidence of confidential VMs of Azure: guests of AMD SEV-SNP or Intel TDX behind a paravisor.
//
// The paravisor (HCL) runs in the same confidential VM as the guest's operating system, above it, and has the hardware's reports to itself. It
// gives the guest a vTPM. So evidence has three parts, in deterministic CBOR:
//
//   - the HCL report: a hardware report, and a JSON text (runtime data) whose SHA-256 digest is the first half of the hardware's report data; the
//     second half is zero. The text has the public key of the vTPM's attestation key (HCLAkPub);
//   - a quote of the vTPM over its PCRs and the short form of our report data ([attest.ReportData.Short]), signed by that key;
//   - the hardware's evidence: with SEV-SNP the report within the HCL report, with TDX a quote besides, for the report within can be verified only on
//     the same machine.
//
// The endorsements of the evidence are those of the hardware: the certificate of the VCEK, or Intel's collateral.
//
// Verified claims are those of the hardware, by the names of packages sevsnp or tdx, and pcr0 to pcr23; HardwareID tells which of the two it is. A
// policy must name the measurement of the paravisor (measurement, id_key_digest or mrtd): to the hardware, a guest that says it is a paravisor is as
// good as any other. A report that was not made at VMPL 0, where the paravisor runs, is refused.
//
// [Attester] makes evidence. The HCL report is at the NV index [ReportIndex] of the vTPM, its attestation key at [KeyHandle]; [Host] gives the
// rest.
//
// Sources: Microsoft, "Confidential VM guest attestation" and the sources of azure-cvm-attestation-tools and of OpenHCL.
package azure
