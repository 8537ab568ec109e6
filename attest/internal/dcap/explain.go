package dcap

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Field is one thing that a report tells, for people.
type Field = attest.Field

// Fields tells all of the quote, its certificate and the collateral that could be read, in the order of the quote.
// Whether any of it is true is what Checks say.
func (r *Report) Fields() []Field {
	var f fields
	if r.Quote != nil {
		f.quote(r.Quote)
	}
	if r.PCK != nil {
		f.pck(r.PCK)
	}
	f.add("collateral from", string(r.Origin))
	if r.Collateral != nil {
		f.collateral(r.Collateral)
	}
	f.level("platform", r.Platform)
	f.level("TDX module", r.Module)
	f.level("quoting enclave", r.QE)
	if r.TCB != "" {
		f.add("TCB status", string(r.TCB))
		f.add("advisories", fmt.Sprint(r.Advisories))
	}
	f.time("expires", r.Expiry)
	return f
}

type fields []Field

func (f *fields) add(name, value string)        { *f = append(*f, Field{Name: name, Value: value}) }
func (f *fields) hex(name string, value []byte) { f.add(name, hex.EncodeToString(value)) }
func (f *fields) number(name string, n uint64)  { f.add(name, strconv.FormatUint(n, 10)) }

func (f *fields) time(name string, t time.Time) {
	if !t.IsZero() {
		f.add(name, stamp(t))
	}
}

func (f *fields) quote(q *Quote) {
	f.add("quote", fmt.Sprintf("%v, version %d", q.TEE, q.Version))
	f.hex("user data", q.UserData[:])
	if q.TD != nil {
		f.td(q.TD)
	} else {
		f.enclave("", q.Enclave)
	}
	f.enclave("QE ", &q.QEReport)
	f.number("bytes of padding", uint64(q.Padding))
}

func (f *fields) enclave(prefix string, e *EnclaveReport) {
	f.hex(prefix+"CPUSVN", e.CPUSVN[:])
	f.add(prefix+"MISCSELECT", fmt.Sprintf("%08x", e.MiscSelect))
	f.hex(prefix+"ATTRIBUTES", e.Attributes[:])
	f.hex(prefix+"MRENCLAVE", e.MREnclave[:])
	f.hex(prefix+"MRSIGNER", e.MRSigner[:])
	f.hex(prefix+"CONFIGID", e.ConfigID[:])
	f.hex(prefix+"ISVEXTPRODID", e.ISVExtProdID[:])
	f.hex(prefix+"ISVFAMILYID", e.ISVFamilyID[:])
	f.number(prefix+"ISVPRODID", uint64(e.ISVProdID))
	f.number(prefix+"ISVSVN", uint64(e.ISVSVN))
	f.number(prefix+"CONFIGSVN", uint64(e.ConfigSVN))
	f.add(prefix+"debug", strconv.FormatBool(e.Debug()))
	f.hex(prefix+"REPORTDATA", e.ReportData[:])
}

func (f *fields) td(t *TDReport) {
	f.hex("TEE_TCB_SVN", t.TEETCBSVN[:])
	f.hex("MRSEAM", t.MRSeam[:])
	f.hex("MRSIGNERSEAM", t.MRSignerSeam[:])
	f.hex("SEAMATTRIBUTES", t.SeamAttributes[:])
	f.hex("TDATTRIBUTES", t.Attributes[:])
	f.hex("XFAM", t.XFAM[:])
	f.hex("MRTD", t.MRTD[:])
	f.hex("MRCONFIGID", t.MRConfigID[:])
	f.hex("MROWNER", t.MROwner[:])
	f.hex("MROWNERCONFIG", t.MROwnerConfig[:])
	for i := range t.RTMR {
		f.hex("RTMR"+strconv.Itoa(i), t.RTMR[i][:])
	}
	if t.V15 {
		f.hex("TEE_TCB_SVN2", t.TEETCBSVN2[:])
		f.hex("MRSERVICETD", t.MRServiceTD[:])
	}
	f.add("debug", strconv.FormatBool(t.Debug()))
	f.hex("REPORTDATA", t.ReportData[:])
}

func (f *fields) pck(p *PCK) {
	f.add("PCK authority", string(p.CA))
	f.add("FMSPC", p.FMSPC.String())
	f.hex("PPID", p.PPID[:])
	f.hex("platform instance", p.InstanceID[:])
	f.hex("PCK components", p.Components[:])
	f.number("PCESVN", uint64(p.PCESVN))
	f.time("PCK certificate until", p.chain.leaf().NotAfter)
}

func (f *fields) collateral(c *Collateral) {
	f.number("evaluation of the TCB info", uint64(c.TCBInfo.Evaluation))
	f.time("TCB info until", c.TCBInfo.Expires)
	f.number("evaluation of the QE identity", uint64(c.QEIdentity.Evaluation))
	f.time("QE identity until", c.QEIdentity.Expires)
	for _, l := range []*CRL{c.RootCRL, c.PCKCRL} {
		if l != nil {
			f.time("revocation list of "+l.Issuer()+" until", l.NextUpdate())
		}
	}
}

func (f *fields) level(name string, l *Level) {
	if l != nil {
		f.add(name, fmt.Sprintf("%s as of %s %v", l.Status, l.Date.UTC().Format(time.DateOnly), l.Advisories))
	}
}
