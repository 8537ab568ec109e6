package dcap

import "github.com/vouchmq/vouchmq/attest"

// Claims returns what a genuine quote says, or why it is not genuine.
func (r *Report) Claims() (attest.PlatformClaims, error) {
	if r.Err != nil {
		return attest.PlatformClaims{}, r.Err
	}
	q := r.Quote
	c := attest.PlatformClaims{
		Platform:   q.TEE.Platform(),
		ReportData: q.ReportData(),
		TCB:        r.TCB,
		Advisories: r.Advisories,
		HardwareID: r.PCK.hardwareID(q.TEE),
		Expiry:     r.Expiry,
	}
	if q.TD != nil {
		c.Debug, c.Measurements, c.Versions = q.TD.Debug(), q.TD.measurements(), q.TD.versions()
		if q.TD.bound() {
			c.Conditions = []string{attest.ConditionServiceTD}
		}
	} else {
		c.Debug, c.Measurements, c.Versions = q.Enclave.Debug(), q.Enclave.measurements(), q.Enclave.versions()
	}
	c.Versions["pce_svn"] = uint64(r.PCK.PCESVN)
	c.Versions["qe_isv_svn"] = uint64(q.QEReport.ISVSVN)
	c.Versions["tcb_evaluation"] = uint64(min(r.Collateral.TCBInfo.Evaluation, r.Collateral.QEIdentity.Evaluation))
	return c, nil
}

func (e *EnclaveReport) measurements() map[string][]byte {
	return map[string][]byte{
		"mrenclave":       e.MREnclave[:],
		"mrsigner":        e.MRSigner[:],
		"config_id":       e.ConfigID[:],
		"isv_ext_prod_id": e.ISVExtProdID[:],
		"isv_family_id":   e.ISVFamilyID[:],
		"attributes":      e.Attributes[:],
	}
}

func (e *EnclaveReport) versions() map[string]uint64 {
	return map[string]uint64{"isv_prod_id": uint64(e.ISVProdID), "isv_svn": uint64(e.ISVSVN), "config_svn": uint64(e.ConfigSVN)}
}

func (t *TDReport) measurements() map[string][]byte {
	m := map[string][]byte{
		"mrtd":          t.MRTD[:],
		"mrconfigid":    t.MRConfigID[:],
		"mrowner":       t.MROwner[:],
		"mrownerconfig": t.MROwnerConfig[:],
		"rtmr0":         t.RTMR[0][:],
		"rtmr1":         t.RTMR[1][:],
		"rtmr2":         t.RTMR[2][:],
		"rtmr3":         t.RTMR[3][:],
		"mrseam":        t.MRSeam[:],
		"mrsignerseam":  t.MRSignerSeam[:],
		"td_attributes": t.Attributes[:],
		"xfam":          t.XFAM[:],
		"tee_tcb_svn":   t.TEETCBSVN[:],
	}
	if t.V15 {
		m["tee_tcb_svn2"], m["mrservicetd"] = t.TEETCBSVN2[:], t.MRServiceTD[:]
	}
	return m
}

func (t *TDReport) versions() map[string]uint64 {
	return map[string]uint64{"tdx_module": uint64(t.TEETCBSVN[1]), "tdx_module_svn": uint64(t.TEETCBSVN[0])}
}
