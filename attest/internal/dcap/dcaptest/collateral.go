package dcaptest

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"time"

	"github.com/vouchmq/vouchmq/attest/internal/dcap"
)

// Evaluation is the evaluation number of all collateral, unless it is changed.
const Evaluation = 17

// Collateral says what collateral to make. The functions change parts before they are signed.
type Collateral struct {
	SGX        bool // else for TDX
	TCBInfo    func(map[string]any)
	QEIdentity func(map[string]any)
	RootCRL    func(*x509.RevocationList)
	PCKCRL     func(*x509.RevocationList)
}

// Documents makes collateral.
func (w *World) Documents(c Collateral) *dcap.Documents {
	w.t.Helper()
	return &dcap.Documents{
		TCBInfo:     w.signed(tcbInfo(c.SGX), c.TCBInfo),
		QEIdentity:  w.signed(qeIdentity(c.SGX), c.QEIdentity),
		RootCRL:     w.CRL(w.Root, c.RootCRL),
		PCKCRL:      w.CRL(w.CA, c.PCKCRL),
		PCKCRLChain: w.Chain(w.CA),
	}
}

// Endorsements makes collateral as it travels in evidence.
func (w *World) Endorsements(c Collateral) []byte {
	w.t.Helper()
	data, err := w.Documents(c).Encode()
	w.check(err)
	return data
}

func (w *World) signed(document map[string]any, f func(map[string]any)) dcap.Signed {
	w.t.Helper()
	if f != nil {
		f(document)
	}
	body, err := json.Marshal(document)
	w.check(err)
	return w.Sign(body)
}

// CRL makes a revocation list that names nobody.
func (w *World) CRL(issuer *Authority, f func(*x509.RevocationList)) []byte {
	w.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: Now.AddDate(0, 0, -10), NextUpdate: Now.AddDate(0, 0, 20)}
	if f != nil {
		f(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer.Certificate, issuer.Key)
	w.check(err)
	return der
}

// Revoke makes a list name the certificates, for Collateral.
func Revoke(authorities ...*Authority) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) {
		for _, a := range authorities {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: a.Certificate.SerialNumber, RevocationTime: l.ThisUpdate})
		}
	}
}

// Set changes one member of a document, for Collateral.
func Set(name string, value any) func(map[string]any) {
	return func(m map[string]any) {
		if value == nil {
			delete(m, name)
			return
		}
		m[name] = value
	}
}

func head(id string, version int) map[string]any {
	return map[string]any{
		"id": id, "version": version, "issueDate": Stamp(-10), "nextUpdate": Stamp(20), "tcbEvaluationDataNumber": Evaluation,
	}
}

// Stamp is the time some days from Now, as documents write it.
func Stamp(days int) string { return Now.AddDate(0, 0, days).Format(time.RFC3339) }

// Level makes a TCB level of a platform. Of TDX components, nil is for SGX.
func Level(sgx [16]uint8, tdx []uint8, pceSVN uint16, status string, advisories ...string) map[string]any {
	tcb := map[string]any{"sgxtcbcomponents": svns(sgx[:]), "pcesvn": pceSVN}
	if tdx != nil {
		tcb["tdxtcbcomponents"] = svns(append(tdx, make([]uint8, 16-len(tdx))...))
	}
	return level(tcb, status, advisories)
}

// PartLevel makes a TCB level of a QE or TDX module.
func PartLevel(isvSVN int, status string, advisories ...string) map[string]any {
	return level(map[string]any{"isvsvn": isvSVN}, status, advisories)
}

func level(tcb map[string]any, status string, advisories []string) map[string]any {
	return map[string]any{"tcb": tcb, "tcbDate": Stamp(-100), "tcbStatus": status, "advisoryIDs": advisories}
}

func svns(values []uint8) (list []map[string]any) {
	for _, v := range values {
		list = append(list, map[string]any{"svn": v})
	}
	return list
}

// Module makes the identity of a TDX module.
func Module(id string, levels ...map[string]any) map[string]any {
	m := map[string]any{"mrsigner": hex.EncodeToString(make([]byte, 48)), "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF"}
	if id != "" {
		m["id"], m["tcbLevels"] = id, levels
	}
	return m
}

// Older are components that the platform of a World surpasses.
var Older = [16]uint8{2, 2, 2, 2, 3, 1, 0, 5}

func tcbInfo(sgx bool) map[string]any {
	m := head("TDX", 3)
	m["fmspc"], m["pceId"], m["tcbType"] = FMSPC.String(), "0000", 0
	if sgx {
		m["id"] = "SGX"
		m["tcbLevels"] = []any{
			Level(Components, nil, PCESVN, "SWHardeningNeeded", "INTEL-SA-00615"),
			Level(Older, nil, 5, "OutOfDate", "INTEL-SA-00615", "INTEL-SA-00657"),
		}
		return m
	}
	m["tcbLevels"] = []any{
		Level(Components, []uint8{6, 0, 3}, PCESVN, "UpToDate"),
		Level(Older, []uint8{5, 0, 2}, 5, "OutOfDate", "INTEL-SA-01036"),
	}
	m["tdxModule"] = Module("")
	m["tdxModuleIdentities"] = []any{
		Module("TDX_01", PartLevel(6, "UpToDate"), PartLevel(4, "OutOfDate", "INTEL-SA-01099"), PartLevel(1, "Revoked")),
		Module("TDX_0a", PartLevel(2, "UpToDate")),
	}
	return m
}

func qeIdentity(sgx bool) map[string]any {
	m := head("TD_QE", 2)
	if sgx {
		m["id"] = "QE"
	}
	m["miscselect"], m["miscselectMask"] = "00000000", "FFFFFFFF"
	m["attributes"], m["attributesMask"] = "11000000000000000000000000000000", "FBFFFFFFFFFFFFFF0000000000000000"
	m["mrsigner"], m["isvprodid"] = hex.EncodeToString(QEMRSigner[:]), 2
	m["tcbLevels"] = []any{PartLevel(int(QESVN), "UpToDate"), PartLevel(2, "OutOfDate", "INTEL-SA-00477"), PartLevel(1, "Revoked")}
	return m
}

// Sign signs a document as TCB info and QE identity are.
func (w *World) Sign(body []byte) dcap.Signed {
	return dcap.Signed{Body: body, Signature: w.sign(w.TCBSigning.Key, body), Chain: w.Chain(w.TCBSigning)}
}
