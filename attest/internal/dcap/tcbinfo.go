package dcap

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const tcbInfoVersion = 3

// TCBInfo is Intel's statement of how current the platforms of one FMSPC are, with its signature verified.
type TCBInfo struct {
	document
	TEE     TEE
	FMSPC   FMSPC
	PCEID   [2]byte
	Levels  []Level        // highest first, at least one
	Module  moduleIdentity // of TDX modules of version 0
	Modules []moduleIdentity
}

// moduleIdentity says how Intel's TDX modules of one version look.
type moduleIdentity struct {
	ID         string // TDX_01; "" for version 0
	MRSigner   [48]byte
	Attributes [8]byte
	Levels     []Level // highest first; none for version 0
}

type tcbInfoWire struct {
	FMSPC   hexBytes     `json:"fmspc"`
	PCEID   hexBytes     `json:"pceId"`
	Type    *int         `json:"tcbType"`
	Levels  []levelWire  `json:"tcbLevels"`
	Module  *moduleWire  `json:"tdxModule"`
	Modules []moduleWire `json:"tdxModuleIdentities"`
}

type moduleWire struct {
	ID         string      `json:"id"`
	MRSigner   hexBytes    `json:"mrsigner"`
	Attributes hexBytes    `json:"attributes"`
	Levels     []levelWire `json:"tcbLevels"`
}

// OpenTCBInfo verifies the signature of TCB info and reads it. It looks at no clock.
func OpenTCBInfo(s Signed, root Root) (*TCBInfo, error) {
	issuer, err := s.verify("TCB info", root)
	if err != nil {
		return nil, err
	}
	t, err := readTCBInfo(s.Body)
	if err != nil {
		return nil, err
	}
	t.issuer = issuer
	return t, nil
}

func readTCBInfo(body []byte) (*TCBInfo, error) {
	var w tcbInfoWire
	d, err := readDocument("TCB info", body, &w)
	if err != nil {
		return nil, err
	}
	t := &TCBInfo{document: d}
	if d.ID == TDX.String() {
		t.TEE = TDX
	}
	if err := d.checkKind(t.TEE.String(), tcbInfoVersion); err != nil {
		return nil, err
	}
	if len(w.FMSPC) != len(t.FMSPC) || len(w.PCEID) != len(t.PCEID) || w.Type == nil || *w.Type != 0 {
		return nil, fail(FaultFormat, "TCB info lacks FMSPC or PCE id, or is not of type 0")
	}
	copy(t.FMSPC[:], w.FMSPC)
	copy(t.PCEID[:], w.PCEID)
	if err := t.readLevels(w.Levels); err != nil {
		return nil, err
	}
	return t, t.readModules(&w)
}

func (t *TCBInfo) readLevels(wire []levelWire) error {
	for i, w := range wire {
		if w.TCB.PCESVN == nil || !slices.Contains(platformStatuses, w.Status) {
			return fail(FaultFormat, "TCB info: level %d has no PCESVN, or the unknown status %q", i, shorten(string(w.Status)))
		}
		l := Level{PCESVN: *w.TCB.PCESVN, Status: w.Status, Date: w.Date, Advisories: w.Advisories}
		ok := readComponents(&l.SGX, w.TCB.SGX)
		if t.TEE == TDX {
			ok = ok && readComponents(&l.TDX, w.TCB.TDX)
		}
		if !ok {
			return fail(FaultFormat, "TCB info: level %d has not 16 component SVNs", i)
		}
		t.Levels = append(t.Levels, l)
	}
	if len(t.Levels) == 0 {
		return fail(FaultFormat, "TCB info has no levels")
	}
	slices.SortStableFunc(t.Levels, comparePlatformLevels)
	return nil
}

func readComponents(to *[16]uint8, wire []componentWire) bool {
	if len(wire) != len(to) {
		return false
	}
	for i, c := range wire {
		if c.SVN == nil {
			return false
		}
		to[i] = *c.SVN
	}
	return true
}

func (t *TCBInfo) readModules(w *tcbInfoWire) (err error) {
	if t.TEE == SGX {
		if w.Module != nil || w.Modules != nil {
			return fail(FaultFormat, "TCB info of SGX speaks of TDX modules")
		}
		return nil
	}
	if w.Module == nil {
		return fail(FaultFormat, "TCB info of TDX says nothing of the TDX module")
	}
	if t.Module, err = readModule(w.Module); err != nil {
		return err
	}
	for i := range w.Modules {
		m, err := readModule(&w.Modules[i])
		if err != nil {
			return err
		}
		if m.Levels, err = partLevels("TDX module "+shorten(m.ID), w.Modules[i].Levels); err != nil {
			return err
		}
		t.Modules = append(t.Modules, m)
	}
	return nil
}

func readModule(w *moduleWire) (moduleIdentity, error) {
	m := moduleIdentity{ID: w.ID}
	if len(w.MRSigner) != len(m.MRSigner) || len(w.Attributes) != len(m.Attributes) {
		return m, fail(FaultFormat, "TDX module %s: signer or attributes have the wrong length", shorten(w.ID))
	}
	copy(m.MRSigner[:], w.MRSigner)
	copy(m.Attributes[:], w.Attributes)
	return m, nil
}

// module returns the identity of the modules of a version above 0, nil if there is none. The number in the name is hexadecimal.
func (t *TCBInfo) module(version uint8) *moduleIdentity {
	id := fmt.Sprintf("TDX_%02X", version)
	for i := range t.Modules {
		if strings.EqualFold(t.Modules[i].ID, id) {
			return &t.Modules[i]
		}
	}
	return nil
}

// CheckTime refuses TCB info that has expired at the time now, or is from the future.
func (t *TCBInfo) CheckTime(now time.Time) error { return t.checkTime(now) }

// checkPlatform wants TCB info for the platform of the certificate.
func (t *TCBInfo) checkPlatform(tee TEE, p *PCK) error {
	if err := t.checkKind(tee.String(), tcbInfoVersion); err != nil {
		return err
	}
	if t.FMSPC != p.FMSPC {
		return fail(FaultCollateralMismatch, "TCB info is for FMSPC %v, the platform has %v", t.FMSPC, p.FMSPC)
	}
	if t.PCEID != p.PCEID {
		return fail(FaultCollateralMismatch, "TCB info is for PCE id %x, the platform has %x", t.PCEID, p.PCEID)
	}
	return nil
}

// checkModule wants the TDX module to be Intel's, and returns its identity.
func (t *TCBInfo) checkModule(td *TDReport) (*moduleIdentity, error) {
	m := &t.Module
	if version := td.TEETCBSVN[1]; version > 0 {
		if m = t.module(version); m == nil {
			return nil, fail(FaultModule, "TCB info knows no TDX module of version %d", version)
		}
	}
	if td.MRSignerSeam != m.MRSigner {
		return nil, fail(FaultModule, "TDX module is signed by %x, not by Intel", td.MRSignerSeam[:8])
	}
	if td.SeamAttributes != [8]byte{} || td.SeamAttributes != m.Attributes {
		return nil, fail(FaultModule, "TDX module has SEAMATTRIBUTES %x, not zero", td.SeamAttributes)
	}
	return m, nil
}
