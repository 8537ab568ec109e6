// Package sevsnp verifies attestation reports of AMD SEV-SNP: of the processor lines Milan, Genoa and Turin, signed by the key of a
// chip (VCEK) or by the key that AMD has made for a cloud provider (VLEK).
//
// A report is 1,184 bytes: what the firmware says of the guest, and an ECDSA signature on P-384. The certificate of the key that has
// signed travels with it as an endorsement (DER). AMD's certificates above it are part of this package, in roots: of each line the
// root (ARK) and the two that it has signed, for VCEKs (ASK) and VLEKs (ASVK). They are AMD's, from its Key Distribution Service.
//
// The certificate says for which chip and for which security versions the key was made. Both must be those of the report: a key of an older
// firmware, which may have been stolen, cannot sign for a newer one.
//
// AMD gives no TCB status. A policy says which versions are the least that it accepts (min_tcb). What makes a guest weaker than it could be is
// reported as a condition, which a policy must allow by name: smt (threads of one core may be another guest's), migration_agent (a guest may be
// moved to another machine), provisional_firmware (the firmware can still be rolled back).
//
// Sources: AMD, SEV Secure Nested Paging Firmware ABI Specification (56860), tables "ATTESTATION_REPORT", "TCB_VERSION", "Guest Policy"; Versioned
// Chip Endorsement Key Certificate and KDS Interface Specification (57230).
package sevsnp
