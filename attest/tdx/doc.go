// Package tdx attests and verifies trust domains (TDs) of Intel TDX.
//
// [NewVerifier] verifies quotes of versions 4 and 5 anywhere, offline. [Attester] makes them inside a TD, through the kernel's
// configfs-tsm, and extends RTMR3 with the digest of the Wasm module.
//
// Verified claims have the measurements mrtd, mrconfigid, mrowner, mrownerconfig and rtmr0 to rtmr3, and mrseam, mrsignerseam,
// td_attributes, xfam, tee_tcb_svn, tee_tcb_svn2 and mrservicetd besides; and the versions tdx_module,
// tdx_module_svn, pce_svn, qe_isv_svn and tcb_evaluation.
//
// A TD that is bound to a service TD has the condition service_td, which a policy refuses unless it names the service TD.
//
// RTMR3 shows that something extended it with the module's digest, not who: whoever is root in the TD can. What ran before, and so who
// is root, is what MRTD and RTMR0 to RTMR2 measure.
package tdx
