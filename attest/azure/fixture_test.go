package azure

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	"github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
	"github.com/vouchmq/vouchmq/attest/sevsnp/sevsnptest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// now is when all that a test makes is valid.
var now = dcaptest.Now

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// amd are an AMD of our own for Milan, and keys of a chip and of a vTPM: RSA keys, which take long, are made once.
type amd struct {
	*sevsnptest.World
	ak, otherAK *rsa.PrivateKey
	chip        *ecdsa.PrivateKey
}

var newAMD = sync.OnceValue(func() *amd {
	key := func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) }
	return &amd{must(sevsnptest.New(2048)), key(), key(), must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))}
})

func (a *amd) verifier() *sevsnp.Verifier {
	return sevsnp.NewVerifier().WithAuthorities("Milan", a.Root.Certificate, a.VCEKs.Certificate, a.VCEKs.Certificate)
}

// vcek is the certificate of the chip.
func (a *amd) vcek(notAfter time.Time) []byte {
	g := sevsnptest.Milan(nil)
	g.ChangeCertificate = func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.AddDate(-2, 0, 0), notAfter }
	return must(a.Certificate(g, a.chip))
}

// report is one of SEV-SNP.
func (a *amd) report(data [64]byte, change func([]byte)) []byte {
	g := sevsnptest.Milan(data[:])
	g.ChangeReport = change
	return must(g.Report(a.chip))
}

// machine is a confidential VM of Azure, with everything that can be wrong with one.
type machine struct {
	amd   *amd
	intel *dcaptest.World // nil: it is one of AMD

	key      *rsa.PrivateKey // of the vTPM
	text     func(map[string]any)
	report   func([]byte)        // of SEV-SNP, before it is signed
	td       func([]byte)        // of TDX, the same
	bound    func(*[64]byte)     // the hardware's report data
	shown    func([]byte) []byte // the HCL report, after all is signed
	quoted   func([]byte) []byte // TPMS_ATTEST, before it is signed
	changed  func(*evidence)     // at the end
	notAfter time.Time           // of the VCEK
	extra    []byte              // qualifying data of the quote
	endorsed func([]byte) []byte // what travels beside it
}

func newMachine(intel *dcaptest.World) *machine {
	a := newAMD()
	return &machine{amd: a, intel: intel, key: a.ak, notAfter: now.AddDate(1, 0, 0), extra: slices.Repeat([]byte{7}, 32)}
}

func (m *machine) verifier() *Verifier {
	v := newVerifier(m.amd.verifier(), &dcap.Verifier{TEE: dcap.TDX})
	if m.intel != nil {
		v.hardware[tdx] = &dcap.Verifier{TEE: dcap.TDX, Root: m.intel.Trust()}
	}
	return v
}

func key(name string, k *rsa.PublicKey) map[string]any {
	return map[string]any{"kid": name, "key_ops": []string{"sign"}, "kty": "RSA", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(k.N.Bytes())}
}

// hcl makes an HCL report, and with TDX the quote that goes with it.
func (m *machine) hcl() (hcl, tdQuote []byte) {
	data := map[string]any{
		"keys":             []any{key(keyID, &m.amd.ak.PublicKey), key("HCLEkPub", &m.amd.otherAK.PublicKey)},
		"vm-configuration": map[string]any{"secure-boot": true},
	}
	if m.text != nil {
		m.text(data)
	}
	text := must(json.Marshal(data))
	digest := sha256.Sum256(text)
	bound := [64]byte(append(digest[:], make([]byte, 32)...))
	if m.bound != nil {
		m.bound(&bound)
	}
	area, of := make([]byte, reportSize), snp
	if m.intel != nil {
		of, tdQuote = tdx, m.intel.Quote(dcaptest.Quote{Version: 4, ReportData: bound, Body: m.td})
		copy(area[128:], bound[:])
	} else {
		area = m.amd.report(bound, m.report)
	}
	hcl = frame(of, area, text)
	if m.shown != nil {
		hcl = m.shown(hcl)
	}
	return hcl, tdQuote
}

func frame(of kind, area, text []byte) []byte {
	u32 := func(all ...int) (b []byte) {
		for _, n := range all {
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
		}
		return b
	}
	head := append([]byte(magic), u32(1, textAt+len(text), attestationRequest, 0, 0, 0, 0)...)
	runtime := u32(runtimeHead+len(text), runtimeVersion, int(of), hashSHA256, len(text))
	return bytes.Join([][]byte{head, area, runtime, text, make([]byte, 99)}, nil)
}

// attested is a TPMS_ATTEST over PCRs 0 and 14.
func (m *machine) attested(pcrs [][]byte) []byte {
	be := binary.BigEndian
	sized := func(b, v []byte) []byte { return append(be.AppendUint16(b, uint16(len(v))), v...) }
	b := be.AppendUint16(be.AppendUint32(nil, 0xff544347), 0x8018)
	b = sized(sized(b, []byte("a qualified name")), m.extra)
	b = append(b, make([]byte, 17+8)...)
	b = append(be.AppendUint16(be.AppendUint32(b, 1), 0x000b), 3, 0x01, 0x40, 0)
	digest := sha256.Sum256(bytes.Join(pcrs, nil))
	b = sized(b, digest[:])
	if m.quoted != nil {
		b = m.quoted(b)
	}
	return b
}

// signature is a TPMT_SIGNATURE: RSASSA with SHA-256.
func signature(raw []byte) []byte {
	return append([]byte{0, 0x14, 0, 0x0b, byte(len(raw) >> 8), byte(len(raw))}, raw...)
}

func (m *machine) quote(t testing.TB) attest.Quote {
	t.Helper()
	pcrs := [][]byte{slices.Repeat([]byte{0x10}, 32), slices.Repeat([]byte{0x14}, 32)}
	e := evidence{Version: version, PCRs: pcrs, Attested: m.attested(pcrs)}
	e.HCL, e.TDQuote = m.hcl()
	digest := sha256.Sum256(e.Attested)
	e.Signature = signature(must(rsa.SignPKCS1v15(rand.Reader, m.key, crypto.SHA256, digest[:])))
	if m.changed != nil {
		m.changed(&e)
	}
	q := attest.Quote{Platform: attest.Azure, Data: must(dcbor.Encode(e)), Endorsements: m.endorse()}
	if m.endorsed != nil {
		q.Endorsements = m.endorsed(q.Endorsements)
	}
	return q
}

// endorse makes what travels beside the hardware's report.
func (m *machine) endorse() []byte {
	if m.intel != nil {
		return m.intel.Endorsements(dcaptest.Collateral{})
	}
	return m.amd.vcek(m.notAfter)
}
