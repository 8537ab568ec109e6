package attest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Attester makes quotes; it runs inside the TEE.
type Attester interface {
	// Platform names the kind of TEE.
	Platform() Platform
	// Attest returns a quote over exactly the given report data. It returns soon after ctx is done. It may
	// be called by many goroutines at once.
	Attest(ctx context.Context, data ReportData) (Quote, error)
}

// Measurer is an attester whose platform has a register that can be extended while it runs.
type Measurer interface {
	Attester
	// Measure puts the digest of the module into the register, so that all evidence from then on has it. It is called once,
	// before the module runs. It returns soon after ctx is done. A register that holds this module and nothing else already, since
	// the broker was started before, stays as it is. One that held something else has the module now, and the error is ErrNotAlone.
	Measure(ctx context.Context, module Digest) error
}

// ErrNotAlone says that a register has the digest of the module, and of something that was measured before it, so that its value is not that of the module
// alone. It is no failure: whether it was meant, only who runs the machine knows.
var ErrNotAlone = errors.New("something else was measured before the module")

// NotAlone returns ErrNotAlone with the values of a register before and after the module was measured.
func NotAlone(register string, before, after []byte) error {
	return fmt.Errorf("%w: %s held %x, not zeros: another module since the machine started, or software of the system. It holds %x now. "+
		"Policies that want this module alone there refuse this machine until it has been restarted", ErrNotAlone, register, before, after)
}

// Verifier checks quotes of one platform, anywhere and offline.
type Verifier interface {
	// Platform names the kind of TEE.
	Platform() Platform
	// Verify checks that q is genuine at the time now and returns what it says. The report data that the
	// caller expects is an argument, so that no caller can forget it; the comparison itself is done by
	// Registry.Verify, with PlatformClaims.ReportData. Verify must not panic on any input. Errors are
	// ErrFormat, ErrSignature or ErrFreshness; a low TCB status is reported, not an error.
	Verify(ctx context.Context, q Quote, want ReportData, now time.Time) (PlatformClaims, error)
}

// TCBStatus says how current the platform's security version is, in Intel's words for Intel's platforms.
type TCBStatus string

// The statuses.
const (
	TCBUpToDate                          TCBStatus = "UpToDate"
	TCBSWHardeningNeeded                 TCBStatus = "SWHardeningNeeded"
	TCBConfigurationNeeded               TCBStatus = "ConfigurationNeeded"
	TCBConfigurationAndSWHardeningNeeded TCBStatus = "ConfigurationAndSWHardeningNeeded"
	TCBOutOfDate                         TCBStatus = "OutOfDate"
	TCBOutOfDateConfigurationNeeded      TCBStatus = "OutOfDateConfigurationNeeded"
	// The TD was launched by an older TDX module than runs now: a relaunch would make it current.
	TCBTDRelaunchAdvised                    TCBStatus = "TDRelaunchAdvised"
	TCBTDRelaunchAdvisedConfigurationNeeded TCBStatus = "TDRelaunchAdvisedConfigurationNeeded"
	TCBRevoked                              TCBStatus = "Revoked"
	TCBNotApplicable                        TCBStatus = "NotApplicable" // the platform has no such notion
	TCBSimulated                            TCBStatus = "Simulated"
)

var tcbStatuses = []TCBStatus{
	TCBUpToDate, TCBSWHardeningNeeded, TCBConfigurationNeeded, TCBConfigurationAndSWHardeningNeeded,
	TCBOutOfDate, TCBOutOfDateConfigurationNeeded, TCBTDRelaunchAdvised, TCBTDRelaunchAdvisedConfigurationNeeded, TCBRevoked, TCBNotApplicable, TCBSimulated,
}

// Known reports whether s is one of the statuses above.
func (s TCBStatus) Known() bool { return slices.Contains(tcbStatuses, s) }

// ConditionServiceTD is the condition of a TD that is bound to a service TD, such as one for migration, which could move it with all that it knows. A
// policy names the measurements of those that are meant (service_tds). Only TD reports of TDX 1.5 tell.
const ConditionServiceTD = "service_td"

// PlatformClaims is what a verified quote says, in the same terms for all platforms.
type PlatformClaims struct {
	Platform   Platform
	ReportData []byte // as found in the quote: 64 bytes, or the 32 of RD32 for a TPM
	// Measurements by the names that the policy uses: mrenclave, mrsigner, mrtd, rtmr1, measurement, pcr0, key.
	Measurements map[string][]byte
	// Versions by the names that the policy uses: isv_prod_id, isv_svn, bootloader, snp, microcode.
	Versions   map[string]uint64
	TCB        TCBStatus
	Advisories []string  // that apply, e.g. INTEL-SA-00615
	Debug      bool      // the host can read the TEE
	Conditions []string  // that make it weaker than it could be, each to be allowed by name, e.g. smt
	HardwareID string    // of the machine, platform name, colon, lower-case hexadecimal; "" where unknown
	Expiry     time.Time // when the first of certificates and collateral expires; zero: never
}

// Expired reports whether certificates or collateral behind the quote have expired.
func (c *PlatformClaims) Expired(now time.Time) bool {
	return !c.Expiry.IsZero() && !now.Before(c.Expiry)
}

// Facts are what verified evidence says. Of a connection only [Registry.Verify] makes them; those of [Unbound] are of none, and decide over none.
type Facts struct {
	PlatformClaims
	Identity
	IssuedAt time.Time // informational
}

// Simulated reports whether the TEE protects nothing.
func (f *Facts) Simulated() bool { return f.Platform.Simulated() }
