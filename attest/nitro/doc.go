// Package nitro makes and verifies attestation documents of AWS Nitro Enclaves.
//
// A document is a COSE_Sign1 message (RFC 9052; ES384) by a key that the hypervisor has for the enclave, with the
// certificates that lead from this key to AWS's root. The root is known by its digest, which is all that is trusted. The
// report data of VouchMQ travels as user_data, all 64 bytes of it.
//
// Measurements are the enclave's PCRs, SHA-384, as far as the document has them: PCR0 the image, PCR1 kernel and boot
// ramdisk, PCR2 the application, PCR3 the role of the parent instance, PCR4 the instance, PCR8 the signer of the image.
// PCRs 16 to 31 appear once they are locked. [Attester.Measure] extends PCR16 with the module's digest and locks it.
//
// An enclave in debug mode has zeros in PCR0, 1 and 2, since its host can read it; it is reported as such, and no policy accepts
// it. There is no TCB status: AWS keeps its platform current or does not.
//
// Sources: AWS Nitro Enclaves user guide, "Cryptographic attestation"; aws-nitro-enclaves-nsm-api, docs/attestation_process.md.
package nitro
