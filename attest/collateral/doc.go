// Package collateral keeps and fetches what it takes to verify Intel's quotes: TCB info, QE identities and revocation
// lists, which Intel signs and replaces about once a month.
//
// A [Store] is a directory of these documents as Intel's service (PCS, version 4) gives them. It works offline, and the files
// can be carried there by any means: nothing is used whose signature does not lead to Intel's root.
// A [Client] fetches; [Store.Fetch] and [Store.Refresh] put the two together.
//
//	tdx-tcb-90C06F000000.json  tdx-tcb-90C06F000000.pem   TCB info of a kind of platform (FMSPC), and its issuers' chain
//	tdx-qe.json                tdx-qe.pem                 identity of the quoting enclave
//	pck-platform.crl           pck-platform.pem           revoked processors, by authority: platform, processor
//	root.crl                   root.pem                   revoked authorities
//	seen.json                                             the newest of each document that has been seen
//
// Intel numbers its assessments (tcbEvaluationDataNumber). Someone who could pass off an older one, still valid,
// would hide what has become known since. So the highest number of each document is remembered, and a lower one is refused; likewise of
// each revocation list the time when it was issued (an older one, still valid, names fewer who are revoked);
// what a peer brings along in its evidence must not fall behind the highest number of the same TEE in the store.
// What a peer brings never raises these numbers: else anybody could, with an assessment that Intel has
// published ahead of time, make the store's own documents look old.
package collateral
