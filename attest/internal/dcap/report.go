package dcap

// Sizes of reports in bytes.
const (
	enclaveReportSize = 384
	td10Size          = 584
	td15Size          = 648
)

// Attribute flags of an enclave: low 64 bits of ATTRIBUTES.
const (
	attributeInit  = 1 << 0
	attributeDebug = 1 << 1
)

// EnclaveReport is an SGX report body: 384 bytes.
type EnclaveReport struct {
	CPUSVN       [16]byte
	MiscSelect   uint32
	ISVExtProdID [16]byte
	Attributes   [16]byte // flags and XFRM, 8 bytes each
	MREnclave    [32]byte
	MRSigner     [32]byte
	ConfigID     [64]byte
	ISVProdID    uint16
	ISVSVN       uint16
	ConfigSVN    uint16
	ISVFamilyID  [16]byte
	ReportData   [64]byte
}

func (e *EnclaveReport) read(r *reader) {
	copy(e.CPUSVN[:], r.take(16, "CPUSVN"))
	e.MiscSelect = r.u32("MISCSELECT")
	r.take(12, "report")
	copy(e.ISVExtProdID[:], r.take(16, "ISVEXTPRODID"))
	copy(e.Attributes[:], r.take(16, "ATTRIBUTES"))
	copy(e.MREnclave[:], r.take(32, "MRENCLAVE"))
	r.take(32, "report")
	copy(e.MRSigner[:], r.take(32, "MRSIGNER"))
	r.take(32, "report")
	copy(e.ConfigID[:], r.take(64, "CONFIGID"))
	e.ISVProdID, e.ISVSVN, e.ConfigSVN = r.u16("ISVPRODID"), r.u16("ISVSVN"), r.u16("CONFIGSVN")
	r.take(42, "report")
	copy(e.ISVFamilyID[:], r.take(16, "ISVFAMILYID"))
	copy(e.ReportData[:], r.take(64, "REPORTDATA"))
}

// Debug reports whether the host can read the enclave: DEBUG is set, or INIT is not, so that the report is of no
// enclave that ever ran.
func (e *EnclaveReport) Debug() bool {
	return e.Attributes[0]&attributeDebug != 0 || e.Attributes[0]&attributeInit == 0
}

// TDReport is what a quote says of a trust domain: 584 bytes with TDX 1.0, 648 with 1.5.
type TDReport struct {
	TEETCBSVN      [16]byte // 0: SVN of the TDX module, 1: its version, 2: of the microcode's loader
	MRSeam         [48]byte
	MRSignerSeam   [48]byte
	SeamAttributes [8]byte
	Attributes     [8]byte
	XFAM           [8]byte
	MRTD           [48]byte
	MRConfigID     [48]byte
	MROwner        [48]byte
	MROwnerConfig  [48]byte
	RTMR           [4][48]byte
	ReportData     [64]byte

	V15         bool     // the following are present
	TEETCBSVN2  [16]byte // of the module that runs now; TEETCBSVN is of the one that launched the TD
	MRServiceTD [48]byte
}

func (t *TDReport) read(r *reader, v15 bool) {
	copy(t.TEETCBSVN[:], r.take(16, "TEE_TCB_SVN"))
	copy(t.MRSeam[:], r.take(48, "MRSEAM"))
	copy(t.MRSignerSeam[:], r.take(48, "MRSIGNERSEAM"))
	copy(t.SeamAttributes[:], r.take(8, "SEAMATTRIBUTES"))
	copy(t.Attributes[:], r.take(8, "TDATTRIBUTES"))
	copy(t.XFAM[:], r.take(8, "XFAM"))
	copy(t.MRTD[:], r.take(48, "MRTD"))
	copy(t.MRConfigID[:], r.take(48, "MRCONFIGID"))
	copy(t.MROwner[:], r.take(48, "MROWNER"))
	copy(t.MROwnerConfig[:], r.take(48, "MROWNERCONFIG"))
	for i := range t.RTMR {
		copy(t.RTMR[i][:], r.take(48, "RTMR"))
	}
	copy(t.ReportData[:], r.take(64, "REPORTDATA"))
	if t.V15 = v15; v15 {
		copy(t.TEETCBSVN2[:], r.take(16, "TEE_TCB_SVN2"))
		copy(t.MRServiceTD[:], r.take(48, "MRSERVICETD"))
	}
}

// Debug reports whether the host can look into the TD. It is the group TUD of TDATTRIBUTES, bits 0 to 7: DEBUG
// and the kinds of profiling. A TD with any of them is untrusted.
func (t *TDReport) Debug() bool { return t.Attributes[0] != 0 }

// bound reports whether the TD is bound to a service TD. Without V15 it cannot be told, and MRServiceTD is zero.
func (t *TDReport) bound() bool { return t.MRServiceTD != [48]byte{} }
