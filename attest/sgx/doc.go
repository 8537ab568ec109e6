// Package sgx attests and verifies enclaves of Intel SGX.
//
// [NewVerifier] verifies quotes of version 3 anywhere, offline. [Attester] makes them inside an enclave that Gramine runs,
// through the files of its /dev/attestation.
//
// Verified claims have the measurements mrenclave and mrsigner, and config_id, isv_ext_prod_id, isv_family_id and attributes
// besides; and the versions isv_prod_id, isv_svn, config_svn, pce_svn, qe_isv_svn and tcb_evaluation.
//
// SGX has no register for what is loaded later. The digest of the Wasm module is in the claims-set, which the
// report data commits to; the enclave that computes it is what mrenclave, or mrsigner with isv_prod_id and isv_svn, names.
package sgx
