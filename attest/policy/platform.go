package policy

import (
	"slices"

	"github.com/vouchmq/vouchmq/attest"
)

// JudgePlatform says which identities hold as far as a bare quote can tell: by platform and hardware. A bare quote tells of no module,
// configuration and runtime, so these do not count; hence this is for tools that explain, never for deciding over a connection.
func (p *Policy) JudgePlatform(c *attest.PlatformClaims) *Verdict {
	f := &attest.Facts{PlatformClaims: *c}
	return p.judgeBy(f, func(id *Identity) *attest.Error {
		bare := Identity{Name: id.Name, Simulated: id.Simulated, AnyOf: id.AnyOf, Instances: id.Instances}
		return bare.judge(f)
	})
}

// Only returns the policy with no other identity than the one named, and no rules. The error names the identities that there are.
func (p *Policy) Only(identity string) (*Policy, error) {
	i := slices.IndexFunc(p.identities, func(id Identity) bool { return id.Name == identity })
	if i < 0 {
		return nil, unknownIdentity(identity, p.identities)
	}
	return New([]Identity{p.identities[i]}, nil)
}
