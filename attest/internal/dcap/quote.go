package dcap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/vouchmq/vouchmq/attest"
)

// MaxQuoteSize is the largest quote that is read, in bytes. Real ones have 4.6 to 5 KB; some clouds pad to 8000.
const MaxQuoteSize = 16 << 10

// TEE is the TEE type of a quote's header.
type TEE uint32

// The TEE types.
const (
	SGX TEE = 0
	TDX TEE = 0x81
)

// Platform returns the name that the rest of the module uses.
func (t TEE) Platform() attest.Platform {
	if t == TDX {
		return attest.TDX
	}
	return attest.SGX
}

func (t TEE) String() string {
	if t == TDX {
		return "TDX"
	}
	return "SGX"
}

// Body types of quote version 5.
const (
	bodyTD10 = 2 // TD report of TDX 1.0, 584 bytes
	bodyTD15 = 3 // TD report of TDX 1.5, 648 bytes
)

// Sizes in bytes.
const (
	headerSize    = 48
	signatureSize = 64
	keySize       = 64
)

const (
	keyTypeP256   = 2 // ECDSA-256 with P-256
	certPCKChain  = 5 // PCK, CA and root certificates as PEM
	certQEReport  = 6 // QE report, its signature and what certifies it (versions 4 and 5)
	maxAuthDataQE = 1024
)

var intelQEVendor = [16]byte{0x93, 0x9A, 0x72, 0x33, 0xF7, 0x9C, 0x4C, 0xA9, 0x94, 0x0A, 0x0D, 0xB3, 0x95, 0x7F, 0x06, 0x07}

// Quote is a quote as it was read: nothing in it is verified.
type Quote struct {
	Version   uint16 // 3, 4 or 5
	TEE       TEE
	QESVN     uint16 // zero in versions 4 and 5
	PCESVN    uint16 // zero in versions 4 and 5
	UserData  [20]byte
	Enclave   *EnclaveReport // of SGX, else nil
	TD        *TDReport      // of TDX, else nil
	Signature [signatureSize]byte
	Key       [keySize]byte // attestation key: x and y, big endian

	QEReport    EnclaveReport
	QESignature [signatureSize]byte // over QEReport, by the PCK
	QEAuthData  []byte
	PCKChain    []byte // PEM: PCK certificate, CA, root

	Padding int // bytes of zeros that followed

	signed   []byte // what Signature is over
	qeReport []byte // what QESignature is over
}

// ReportData returns the 64 bytes that the attester had the hardware sign.
func (q *Quote) ReportData() []byte {
	if q.TD != nil {
		return q.TD.ReportData[:]
	}
	return q.Enclave.ReportData[:]
}

// ParseQuote reads a quote. It accepts versions 3 (SGX), 4 and 5 (TDX) with a P-256 attestation key, Intel's
// quoting enclave and a PCK certificate chain, of exactly the lengths that the quote itself states. A TDX
// quote may be followed by zeros, as some clouds return the whole buffer; an SGX quote by nothing.
func ParseQuote(data []byte) (*Quote, error) {
	if len(data) > MaxQuoteSize {
		return nil, fail(FaultFormat, "quote of %d bytes is too large (at most %d)", len(data), MaxQuoteSize)
	}
	r := &reader{rest: data}
	q := &Quote{}
	if err := q.readHeader(r); err != nil {
		return nil, err
	}
	if err := q.readBody(r); err != nil {
		return nil, err
	}
	q.signed = data[:len(data)-len(r.rest)]
	rest := reader{rest: r.sized("signature data")}
	if err := r.failed(); err != nil {
		return nil, err
	}
	if err := q.checkPadding(r.rest); err != nil {
		return nil, err
	}
	if err := q.readSignatureData(&rest); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *Quote) readHeader(r *reader) error {
	q.Version = r.u16("version")
	keyType := r.u16("attestation key type")
	tee := r.u32("TEE type")
	q.QESVN, q.PCESVN = r.u16("QE SVN"), r.u16("PCE SVN")
	vendor := r.take(16, "QE vendor")
	copy(q.UserData[:], r.take(20, "user data"))
	if err := r.failed(); err != nil {
		return err
	}
	q.TEE = TEE(tee)
	switch {
	case q.Version < 3 || q.Version > 5:
		return fail(FaultUnsupported, "quote is of version %d; supported are 3 (SGX), 4 and 5 (TDX)", q.Version)
	case q.TEE != q.wantTEE():
		return fail(FaultUnsupported, "quote of version %d has TEE type %#x; supported are SGX (0) with version 3, and TDX (0x81) with versions 4 and 5", q.Version, tee)
	case keyType != keyTypeP256:
		return fail(FaultUnsupported, "quote has an attestation key of type %d; supported is ECDSA with P-256 (2)", keyType)
	case !bytes.Equal(vendor, intelQEVendor[:]):
		return fail(FaultUnsupported, "quote comes from a quoting enclave of vendor %s, not of Intel", hex.EncodeToString(vendor))
	}
	return nil
}

func (q *Quote) wantTEE() TEE {
	if q.Version == 3 {
		return SGX
	}
	return TDX
}

func (q *Quote) readBody(r *reader) error {
	body := uint16(bodyTD10)
	if q.Version == 5 {
		body = r.u16("body type")
		size := r.u32("body size")
		if want, ok := map[uint16]uint32{bodyTD10: td10Size, bodyTD15: td15Size}[body]; r.err == nil && (!ok || size != want) {
			return fail(FaultUnsupported, "quote has a body of type %d and %d bytes; supported are 2 (%d bytes) and 3 (%d bytes)", body, size, td10Size, td15Size)
		}
	}
	if q.TEE == SGX {
		q.Enclave = new(EnclaveReport)
		q.Enclave.read(r)
	} else {
		q.TD = new(TDReport)
		q.TD.read(r, body == bodyTD15)
	}
	return r.failed()
}

func (q *Quote) checkPadding(rest []byte) error {
	if len(rest) > 0 && q.TEE == SGX {
		return fail(FaultFormat, "quote is followed by %d more bytes", len(rest))
	}
	if len(bytes.Trim(rest, "\x00")) > 0 {
		return fail(FaultFormat, "quote is followed by %d more bytes that are not all zero", len(rest))
	}
	q.Padding = len(rest)
	return nil
}

// readSignatureData reads what follows the body. Versions 4 and 5 put the QE report into an envelope of its own.
func (q *Quote) readSignatureData(r *reader) error {
	copy(q.Signature[:], r.take(signatureSize, "signature"))
	copy(q.Key[:], r.take(keySize, "attestation key"))
	if q.Version > 3 {
		kind := r.u16("certification data type")
		inner := r.sized("certification data")
		if err := r.done("signature data"); err != nil {
			return err
		}
		if kind != certQEReport {
			return fail(FaultUnsupported, "quote has certification data of type %d in place of a QE report (%d)", kind, certQEReport)
		}
		r = &reader{rest: inner}
	}
	return q.readQE(r)
}

func (q *Quote) readQE(r *reader) error {
	begin := r.rest
	q.QEReport.read(r)
	if r.err == nil {
		q.qeReport = begin[:enclaveReportSize]
	}
	copy(q.QESignature[:], r.take(signatureSize, "QE report signature"))
	q.QEAuthData = r.take(int(r.u16("size of QE authentication data")), "QE authentication data")
	kind := r.u16("certification data type")
	q.PCKChain = r.sized("PCK certificate chain")
	if err := r.done("signature data"); err != nil {
		return err
	}
	if len(q.QEAuthData) > maxAuthDataQE {
		return fail(FaultFormat, "QE authentication data of %d bytes is too large (at most %d)", len(q.QEAuthData), maxAuthDataQE)
	}
	if kind != certPCKChain {
		return fail(FaultUnsupported, "quote has certification data of type %d; supported is a PCK certificate chain (%d)", kind, certPCKChain)
	}
	return nil
}

// reader takes fields from the beginning of bytes. After the first field that is cut short it returns zeros and
// remembers the error.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int, what string) []byte {
	if r.err == nil && n > len(r.rest) {
		r.err = fmt.Errorf("quote ends within %s: %d of %d bytes", what, len(r.rest), n)
	}
	if r.err != nil {
		return nil
	}
	field := r.rest[:n:n]
	r.rest = r.rest[n:]
	return field
}

func (r *reader) u16(what string) uint16 {
	if b := r.take(2, what); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32(what string) uint32 {
	if b := r.take(4, what); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// sized takes a field that is preceded by its size in 4 bytes.
func (r *reader) sized(what string) []byte {
	n := r.u32("size of " + what)
	if r.err == nil && uint64(n) > uint64(len(r.rest)) {
		r.err = fmt.Errorf("quote ends within %s: %d of %d bytes", what, len(r.rest), n)
	}
	return r.take(int(n), what)
}

func (r *reader) failed() error {
	if r.err != nil {
		return fail(FaultFormat, "%w", r.err)
	}
	return nil
}

// done wants nothing to be left.
func (r *reader) done(what string) error {
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("%d bytes are left over at the end of the quote's %s", len(r.rest), what)
	}
	return r.failed()
}
