package dcaptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

// Places of fields in the body of a quote, in bytes.
const (
	EnclaveAttributes = 48
	EnclaveMREnclave  = 64
	EnclaveMRSigner   = 128
	EnclaveProdID     = 256
	EnclaveSVN        = 258
	EnclaveReportData = 320

	TDTCBSVN         = 0
	TDMRSignerSeam   = 64
	TDSeamAttributes = 112
	TDAttributes     = 120
	TDMRTD           = 136
	TDRTMR3          = 472
	TDReportData     = 520
	TDTCBSVN2        = 584
	TDMRServiceTD    = 600
)

// Values that quotes have unless they are changed.
var (
	QEVendor   = [16]byte{0x93, 0x9A, 0x72, 0x33, 0xF7, 0x9C, 0x4C, 0xA9, 0x94, 0x0A, 0x0D, 0xB3, 0x95, 0x7F, 0x06, 0x07}
	QEMRSigner = [32]byte{0x51, 0x9E}
	MRTD       = [48]byte{0x7D}
	MREnclave  = [32]byte{0xE1}
	MRSigner   = [32]byte{0x51}
	QESVN      = uint16(4)
)

// Quote says what quote to make. The functions change parts before they are signed.
type Quote struct {
	Version    int  // 3 (SGX), 4, 5 (TDX)
	TD10       bool // version 5 with a body of TDX 1.0
	ReportData [64]byte
	Header     func([]byte)      // 48 bytes
	Body       func([]byte)      // 384, 584 or 648 bytes
	QEReport   func([]byte)      // 384 bytes, with its report data
	AuthData   []byte            // of the QE; nil: 32 bytes
	Key        *ecdsa.PrivateKey // attestation key; nil: a new one
	VouchFor   *ecdsa.PrivateKey // the key that the QE vouches for; nil: the attestation key
	Chain      []byte            // nil: that of the World's PCK
	CertType   uint16            // 0: 5
	Padding    int               // zeros that follow
}

// Quote makes a quote.
func (w *World) Quote(q Quote) []byte {
	w.t.Helper()
	key := q.Key
	if key == nil {
		var err error
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		w.check(err)
	}
	signed := append(q.header(), q.body()...)
	data := append(w.sign(key, signed), point(key)...)
	qe := w.qe(q, key)
	if q.Version == 3 {
		data = append(data, qe...)
	} else {
		data = append(data, sized(6, qe)...)
	}
	out := binary.LittleEndian.AppendUint32(signed, uint32(len(data)))
	return append(append(out, data...), make([]byte, q.Padding)...)
}

func (q Quote) header() []byte {
	h := binary.LittleEndian.AppendUint16(nil, uint16(q.Version))
	h = binary.LittleEndian.AppendUint16(h, 2)
	tee := uint32(0x81)
	if q.Version == 3 {
		tee = 0
	}
	h = binary.LittleEndian.AppendUint32(h, tee)
	h = append(append(append(h, 0, 0, 0, 0), QEVendor[:]...), make([]byte, 20)...)
	if q.Header != nil {
		q.Header(h)
	}
	return h
}

func (q Quote) body() []byte {
	if q.Version == 3 {
		return change(q.enclave(), q.Body)
	}
	td := q.td()
	if q.Version == 4 {
		return change(td[:584], q.Body)
	}
	kind := uint16(3)
	if q.TD10 {
		kind, td = 2, td[:584]
	}
	head := binary.LittleEndian.AppendUint16(nil, kind)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(td)))
	return append(head, change(td, q.Body)...)
}

func (q Quote) enclave() []byte {
	b := make([]byte, 384)
	b[EnclaveAttributes] = 0x05
	copy(b[EnclaveMREnclave:], MREnclave[:])
	copy(b[EnclaveMRSigner:], MRSigner[:])
	b[EnclaveProdID], b[EnclaveSVN] = 1, 2
	copy(b[EnclaveReportData:], q.ReportData[:])
	return b
}

func (q Quote) td() []byte {
	b := make([]byte, 648)
	copy(b[TDTCBSVN:], []byte{6, 1, 3})
	copy(b[TDTCBSVN2:], []byte{6, 1, 3})
	copy(b[TDMRTD:], MRTD[:])
	copy(b[TDReportData:], q.ReportData[:])
	return b
}

// qe returns the QE's report with its signature and certification.
func (w *World) qe(q Quote, key *ecdsa.PrivateKey) []byte {
	auth := q.AuthData
	if auth == nil {
		auth = make([]byte, 32)
	}
	vouched := key
	if q.VouchFor != nil {
		vouched = q.VouchFor
	}
	report := make([]byte, 384)
	report[EnclaveAttributes] = 0x15
	copy(report[EnclaveMRSigner:], QEMRSigner[:])
	binary.LittleEndian.PutUint16(report[EnclaveProdID:], 2)
	binary.LittleEndian.PutUint16(report[EnclaveSVN:], QESVN)
	digest := sha256.Sum256(append(point(vouched), auth...))
	copy(report[EnclaveReportData:], digest[:])
	report = change(report, q.QEReport)
	out := append(report, w.sign(w.PCK.Key, report)...)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(auth)))
	out = append(out, auth...)
	chain, kind := q.Chain, q.CertType
	if chain == nil {
		chain = append(w.Chain(w.PCK), 0)
	}
	if kind == 0 {
		kind = 5
	}
	return append(out, sized(kind, chain)...)
}

func sized(kind uint16, data []byte) []byte {
	out := binary.LittleEndian.AppendUint16(nil, kind)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(data))), data...)
}

func point(key *ecdsa.PrivateKey) []byte {
	b, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err) // a key of P-256 has a point
	}
	return b[1:]
}

func change(b []byte, f func([]byte)) []byte {
	if f != nil {
		f(b)
	}
	return b
}
