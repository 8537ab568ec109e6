package attesttest

import (
	"github.com/vouchmq/vouchmq/attest/sevsnp"
	"github.com/vouchmq/vouchmq/attest/sevsnp/sevsnptest"
)

// amd makes reports of each line, under authorities with keys as long as AMD's.
func amd() (all []Evidence) {
	world := must(sevsnptest.New(4096))
	root, signer := world.Root.Certificate, world.VCEKs.Certificate
	for _, guest := range []sevsnptest.Guest{sevsnptest.Milan(reportData[:]), sevsnptest.Genoa(reportData[:]), sevsnptest.Turin(reportData[:])} {
		verifier := sevsnp.NewVerifier().WithAuthorities(guest.Line(), root, signer, signer)
		all = append(all, Evidence{Name: "SEV-SNP " + guest.Line(), Quote: must(world.Quote(guest)), Verifier: verifier, Now: sevsnptest.Now})
	}
	return all
}
