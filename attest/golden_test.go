package attest_test

// The values that TestFormula wants, computed by a second program from the text of the protocol.
const (
	goldenClaims       = "af061a6553f1000a"
	goldenClaimsDigest = "sha384:096d46d12e0d…"
	goldenLeaf         = "58e2ac84b6697b1a"
	goldenRD64         = "5eb894cefb61aeaf"
	goldenRD32         = "55f95126c4969344"
	goldenContext      = "5c686eafeee413ef"
)
