package dcap

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Level is one entry of a list of TCB levels: what it takes to reach it, and what it is worth.
type Level struct {
	ISVSVN     uint16    // of a QE or TDX module
	SGX, TDX   [16]uint8 // components, of a platform
	PCESVN     uint16    // of a platform
	Status     attest.TCBStatus
	Date       time.Time
	Advisories []string
}

// comparePlatformLevels orders as Intel's library does, highest first. Lists are sorted by it, since their order in
// the document is not to be relied on.
func comparePlatformLevels(a, b Level) int {
	return cmp.Or(bytes.Compare(b.SGX[:], a.SGX[:]), cmp.Compare(b.PCESVN, a.PCESVN), bytes.Compare(b.TDX[:], a.TDX[:]))
}

func compareISVSVN(a, b Level) int { return cmp.Compare(b.ISVSVN, a.ISVSVN) }

// levelOf returns the first level that a QE or TDX module reaches.
func levelOf(levels []Level, isvSVN uint16) *Level {
	for i := range levels {
		if isvSVN >= levels[i].ISVSVN {
			return &levels[i]
		}
	}
	return nil
}

// platformLevels returns the first level that the PCK reaches, and the first that it and the TD reach: with
// SGX the same. The SVNs of the certificate count, not those of the report.
func (t *TCBInfo) platformLevels(p *PCK, td *TDReport) (sgx, full *Level) {
	for i := range t.Levels {
		level := &t.Levels[i]
		if p.PCESVN < level.PCESVN || !reaches(p.Components[:], level.SGX[:]) {
			continue
		}
		if sgx == nil {
			sgx = level
		}
		if td == nil || reaches(td.platformSVN(), level.TDX[len(level.TDX)-len(td.platformSVN()):]) {
			return sgx, level
		}
	}
	return sgx, nil
}

// platformSVN returns the components of TEE_TCB_SVN that the platform's levels judge. Those of a module that has an
// identity of its own (TDX 1.5) are judged by that.
func (t *TDReport) platformSVN() []byte {
	if t.TEETCBSVN[1] > 0 {
		return t.TEETCBSVN[2:]
	}
	return t.TEETCBSVN[:]
}

func reaches(have, want []byte) bool {
	for i := range have {
		if have[i] < want[i] {
			return false
		}
	}
	return true
}

// converge lowers the status of a platform by that of a TDX module or QE.
func converge(platform, part attest.TCBStatus) attest.TCBStatus {
	switch part {
	case attest.TCBRevoked:
		return attest.TCBRevoked
	case attest.TCBOutOfDate:
		return outOfDate(platform)
	}
	return platform
}

func outOfDate(s attest.TCBStatus) attest.TCBStatus {
	switch s {
	case attest.TCBUpToDate, attest.TCBSWHardeningNeeded:
		return attest.TCBOutOfDate
	case attest.TCBConfigurationNeeded, attest.TCBConfigurationAndSWHardeningNeeded:
		return attest.TCBOutOfDateConfigurationNeeded
	}
	return s
}

// relaunch says whether a TD that counts as out of date does so only for the module that launched it: today's is the
// latest, so that a relaunch would do. status is that of platform and module together, sgx of the platform alone.
func (t *TCBInfo) relaunch(td *TDReport, sgx, status, module, qe attest.TCBStatus) (attest.TCBStatus, error) {
	late := status == attest.TCBOutOfDate || status == attest.TCBOutOfDateConfigurationNeeded
	if !td.V15 || qe != attest.TCBUpToDate || isLate(sgx) || !late || module != attest.TCBOutOfDate {
		return status, nil
	}
	now, latest := td.TEETCBSVN2, &t.Levels[0]
	want := uint16(latest.TDX[0])
	if now[1] > 0 {
		m := t.module(now[1])
		if m == nil {
			return "", fail(FaultModule, "TCB info knows no TDX module of version %d, which the TD runs under now", now[1])
		}
		want = m.Levels[0].ISVSVN
	}
	if uint16(now[0]) < want || now[2] < latest.TDX[2] {
		return status, nil
	}
	if needsConfiguration(sgx) || needsConfiguration(status) {
		return attest.TCBTDRelaunchAdvisedConfigurationNeeded, nil
	}
	return attest.TCBTDRelaunchAdvised, nil
}

func isLate(s attest.TCBStatus) bool {
	return s == attest.TCBOutOfDate || s == attest.TCBOutOfDateConfigurationNeeded || s == attest.TCBRevoked
}

func needsConfiguration(s attest.TCBStatus) bool {
	return s == attest.TCBConfigurationNeeded || s == attest.TCBConfigurationAndSWHardeningNeeded || s == attest.TCBOutOfDateConfigurationNeeded
}

// advisories returns those of all levels, sorted, each once.
func advisories(levels ...*Level) []string {
	var all []string
	for _, l := range levels {
		if l != nil {
			all = append(all, l.Advisories...)
		}
	}
	slices.SortFunc(all, strings.Compare)
	return slices.Compact(all)
}
