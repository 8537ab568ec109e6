package dcap_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	. "github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

func tee(version int) dcap.TEE {
	if version == 3 {
		return dcap.SGX
	}
	return dcap.TDX
}

// appraise appraises a quote with collateral that comes with it.
func appraise(w *World, q Quote, c Collateral, change func(*dcap.Verifier)) *dcap.Report {
	v := &dcap.Verifier{TEE: tee(q.Version), Root: w.Trust()}
	if change != nil {
		change(v)
	}
	c.SGX = c.SGX || q.Version == 3
	return v.Appraise(attest.Quote{Data: w.Quote(q), Endorsements: w.Endorsements(c)}, Now)
}

func TestGenuine(t *testing.T) {
	w := New(t)
	data := [64]byte{1, 2, 3}
	for name, c := range map[string]struct {
		quote Quote
		tcb   attest.TCBStatus
		has   map[string][]byte
	}{
		"SGX v3":           {Quote{Version: 3}, attest.TCBSWHardeningNeeded, map[string][]byte{"mrenclave": MREnclave[:], "mrsigner": MRSigner[:]}},
		"TDX v4":           {Quote{Version: 4, Padding: 70}, attest.TCBUpToDate, map[string][]byte{"mrtd": MRTD[:], "rtmr3": make([]byte, 48)}},
		"TDX v5":           {Quote{Version: 5}, attest.TCBUpToDate, map[string][]byte{"mrtd": MRTD[:], "mrservicetd": make([]byte, 48)}},
		"TDX v5, TDX 1.0":  {Quote{Version: 5, TD10: true}, attest.TCBUpToDate, map[string][]byte{"mrtd": MRTD[:], "mrservicetd": nil}},
		"no QE auth data":  {Quote{Version: 4, AuthData: []byte{}}, attest.TCBUpToDate, nil},
		"PCK without NUL":  {Quote{Version: 4, Chain: w.Chain(w.PCK)}, attest.TCBUpToDate, nil},
		"long QE authdata": {Quote{Version: 3, AuthData: make([]byte, 1024)}, attest.TCBSWHardeningNeeded, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c.quote.ReportData = data
			r := appraise(w, c.quote, Collateral{}, nil)
			claims, err := r.Claims()
			if err != nil {
				t.Fatal(err)
			}
			if claims.Platform != tee(c.quote.Version).Platform() || !bytes.Equal(claims.ReportData, data[:]) || claims.TCB != c.tcb || claims.Debug ||
				claims.HardwareID != string(claims.Platform)+":aa010203000000000000000000000000" || !claims.Expiry.Equal(Now.AddDate(0, 0, 20)) {
				t.Errorf("%+v", claims)
			}
			for name, want := range c.has {
				if !bytes.Equal(claims.Measurements[name], want) {
					t.Errorf("%s is %x", name, claims.Measurements[name])
				}
			}
			for _, check := range r.Checks {
				if check.Outcome == dcap.Failed || check.Outcome == dcap.NotRun {
					t.Error(check)
				}
			}
			if !r.CRLs || r.Origin != dcap.OriginEvidence {
				t.Errorf("CRLs %v, collateral from %s", r.CRLs, r.Origin)
			}
		})
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return testkit.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
}

// put returns a function that puts bytes at a place.
func put(at int, value ...byte) func([]byte) {
	return func(b []byte) { copy(b[at:], value) }
}

// fault is one thing gone wrong in an otherwise genuine quote with its collateral.
type fault struct {
	quote      Quote
	collateral Collateral
	world      func(*World)         // before anything is made
	verifier   func(*dcap.Verifier) // after that
	want       dcap.Fault
	kind       attest.Kind
}

func faults(t *testing.T) map[string]fault {
	v4, v3 := Quote{Version: 4}, Quote{Version: 3}
	with := func(q Quote, f func(*Quote)) Quote { f(&q); return q }
	template := func(f func(*x509.Certificate)) func(*World) {
		return func(w *World) {
			w.PCK = w.Issue(w.CA, PCKName, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: OIDSGX(), Value: w.SGXExtension(Components, PCESVN)}}
				f(c)
			})
		}
	}
	reissue := func(which string, name string, f func(*x509.Certificate)) func(*World) {
		return func(w *World) {
			switch which {
			case "signing":
				w.TCBSigning = w.Issue(w.Root, name, f)
			case "CA":
				w.CA = w.Issue(w.Root, name, func(c *x509.Certificate) { w.Authority(c); f(c) })
				template(func(*x509.Certificate) {})(w)
			}
		}
	}
	none := func(*x509.Certificate) {}
	late := func(c *x509.Certificate) { c.NotAfter = Now.AddDate(0, 0, -1) }
	early := func(c *x509.Certificate) { c.NotBefore = Now.AddDate(0, 0, 1) }
	old := func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = Now.AddDate(0, 0, -40), Now.AddDate(0, 0, -10)
	}
	future := func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = Now.AddDate(0, 0, 1), Now.AddDate(0, 0, 31)
	}
	info := func(name string, value any) Collateral { return Collateral{TCBInfo: Set(name, value)} }
	identity := func(name string, value any) Collateral { return Collateral{QEIdentity: Set(name, value)} }
	format, unsupported := dcap.FaultFormat, dcap.FaultUnsupported
	return map[string]fault{
		"version 2":             {quote: with(v3, func(q *Quote) { q.Header = put(0, 2) }), want: unsupported, kind: attest.ErrFormat},
		"version 6":             {quote: with(v4, func(q *Quote) { q.Header = put(0, 6) }), want: unsupported, kind: attest.ErrFormat},
		"version 3 of TDX":      {quote: with(v3, func(q *Quote) { q.Header = put(4, 0x81) }), want: unsupported, kind: attest.ErrFormat},
		"version 4 of SGX":      {quote: with(v4, func(q *Quote) { q.Header = put(4, 0) }), want: unsupported, kind: attest.ErrFormat},
		"key of P-384":          {quote: with(v4, func(q *Quote) { q.Header = put(2, 3) }), want: unsupported, kind: attest.ErrFormat},
		"another QE vendor":     {quote: with(v4, func(q *Quote) { q.Header = put(12, 0) }), want: unsupported, kind: attest.ErrFormat},
		"other TEE's verifier":  {quote: v4, verifier: func(v *dcap.Verifier) { v.TEE = dcap.SGX }, want: unsupported, kind: attest.ErrFormat},
		"certification by PPID": {quote: with(v4, func(q *Quote) { q.CertType = 3 }), want: unsupported, kind: attest.ErrFormat},
		"SGX quote and more":    {quote: with(v3, func(q *Quote) { q.Padding = 1 }), want: format, kind: attest.ErrFormat},
		"huge":                  {quote: with(v4, func(q *Quote) { q.Padding = dcap.MaxQuoteSize }), want: format, kind: attest.ErrFormat},
		"QE auth data too long": {quote: with(v4, func(q *Quote) { q.AuthData = make([]byte, 1025) }), want: format, kind: attest.ErrFormat},
		"no chain":              {quote: with(v4, func(q *Quote) { q.Chain = []byte{0} }), want: dcap.FaultChain, kind: attest.ErrSignature},
		"no PEM":                {quote: with(v4, func(q *Quote) { q.Chain = []byte("certificate") }), want: format, kind: attest.ErrFormat},

		"another root": {quote: v4, verifier: func(v *dcap.Verifier) { v.Root = dcap.NewRoot(&newKey(t).PublicKey) }, want: dcap.FaultRoot, kind: attest.ErrSignature},
		"no root":      {quote: v4, verifier: func(v *dcap.Verifier) { v.Root = dcap.Root{} }, want: dcap.FaultRoot, kind: attest.ErrSignature},
		"Intel's root": {quote: v4, verifier: func(v *dcap.Verifier) { v.Root = dcap.IntelRoot() }, want: dcap.FaultRoot, kind: attest.ErrSignature},
		"root of the right name signs CA": {quote: v4, world: func(w *World) {
			right := w.CA
			w.CA = w.Issue(w.Issue(nil, RootName, w.Authority), PlatformName, w.Authority)
			w.CA.Issuer = right.Issuer // the right root's certificate in the chain
			template(none)(w)
		}, want: dcap.FaultChain, kind: attest.ErrSignature},
		"PCK of another CA": {quote: v4, world: func(w *World) {
			other := *w.PCK
			w.CA = w.Issue(w.Root, PlatformName, w.Authority)
			other.Issuer = w.CA
			w.PCK = &other
		}, want: dcap.FaultChain, kind: attest.ErrSignature},
		"CA that may not sign": {quote: v4, world: func(w *World) {
			w.CA = w.Issue(w.Root, PlatformName, func(c *x509.Certificate) { c.KeyUsage, c.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1} })
			template(none)(w)
		}, want: dcap.FaultChain, kind: attest.ErrSignature},
		"CA of another name": {quote: v4, world: reissue("CA", "Intel SGX PCK Other CA", none), want: dcap.FaultChain, kind: attest.ErrSignature},
		"PCK of another name": {quote: v4, world: template(func(c *x509.Certificate) { c.Subject.CommonName = TCBSigningName }),
			want: dcap.FaultChain, kind: attest.ErrSignature},
		"PCK that is an authority": {quote: v4, world: template(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }),
			want: dcap.FaultChain, kind: attest.ErrSignature},
		"PCK with a critical extension": {quote: v4, world: template(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{1, 2, 3, 4}, Critical: true})
		}), want: dcap.FaultChain, kind: attest.ErrSignature},
		"PCK without SGX extension": {quote: v4, world: template(func(c *x509.Certificate) { c.ExtraExtensions = nil }), want: format, kind: attest.ErrFormat},
		"PCK with an empty extension": {quote: v4, world: template(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{0x30, 0} }),
			want: format, kind: attest.ErrFormat},
		"PCK with an attribute twice": {quote: v4, world: template(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = lastTwice(t, c.ExtraExtensions[0].Value) }),
			want: format, kind: attest.ErrFormat},
		"PCK that names another issuer": {quote: v4, world: func(w *World) {
			right := w.CA
			w.CA = w.IssueKey(w.Root, PlatformName, right.Key, func(c *x509.Certificate) { w.Authority(c); c.Subject.Organization = []string{"Other"} })
			template(none)(w)
			w.CA, w.PCK.Issuer = right, right // whose key has signed
		}, want: dcap.FaultChain, kind: attest.ErrSignature},
		"PCK CRL with a critical extension": {quote: v4, collateral: Collateral{PCKCRL: func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
		}}, want: format, kind: attest.ErrFormat},
		"PCK expired":       {quote: v4, world: template(late), want: dcap.FaultExpired, kind: attest.ErrFreshness},
		"PCK not yet valid": {quote: v4, world: template(early), want: dcap.FaultFuture, kind: attest.ErrFreshness},
		"CA expired":        {quote: v4, world: reissue("CA", PlatformName, late), want: dcap.FaultExpired, kind: attest.ErrFreshness},

		"root CRL expired":     {quote: v4, collateral: Collateral{RootCRL: old}, want: dcap.FaultExpired, kind: attest.ErrFreshness},
		"root CRL of tomorrow": {quote: v4, collateral: Collateral{RootCRL: future}, want: dcap.FaultFuture, kind: attest.ErrFreshness},
		"PCK CRL expired":      {quote: v4, collateral: Collateral{PCKCRL: old}, want: dcap.FaultExpired, kind: attest.ErrFreshness},
		"PCK CRL of tomorrow":  {quote: v4, collateral: Collateral{PCKCRL: future}, want: dcap.FaultFuture, kind: attest.ErrFreshness},

		"TCB signing expired":          {quote: v4, world: reissue("signing", TCBSigningName, late), want: dcap.FaultExpired, kind: attest.ErrFreshness},
		"TCB signing of another name":  {quote: v4, world: reissue("signing", PCKName, none), want: dcap.FaultChain, kind: attest.ErrSignature},
		"TCB info expired":             {quote: v4, collateral: info("nextUpdate", Stamp(-1)), want: dcap.FaultExpired, kind: attest.ErrFreshness},
		"TCB info of tomorrow":         {quote: v4, collateral: info("issueDate", Stamp(1)), want: dcap.FaultFuture, kind: attest.ErrFreshness},
		"TCB info of version 2":        {quote: v4, collateral: info("version", 2), want: dcap.FaultCollateralMismatch, kind: attest.ErrTCB},
		"TCB info without id":          {quote: v4, collateral: info("id", nil), want: dcap.FaultCollateralMismatch, kind: attest.ErrTCB},
		"TCB info of SGX":              {quote: v4, collateral: Collateral{SGX: true}, want: dcap.FaultCollateralMismatch, kind: attest.ErrTCB},
		"TCB info of another FMSPC":    {quote: v4, collateral: info("fmspc", "00806f050000"), want: dcap.FaultCollateralMismatch, kind: attest.ErrTCB},
		"TCB info of another PCE":      {quote: v4, collateral: info("pceId", "0001"), want: dcap.FaultCollateralMismatch, kind: attest.ErrTCB},
		"TCB info without levels":      {quote: v4, collateral: info("tcbLevels", []any{}), want: format, kind: attest.ErrFormat},
		"TCB info with unknown status": {quote: v4, collateral: info("tcbLevels", []any{Level(Components, []uint8{}, 1, "Fine")}), want: format, kind: attest.ErrFormat},
		"TCB info without module":      {quote: v4, collateral: info("tdxModule", nil), want: format, kind: attest.ErrFormat},
		"SGX TCB info with module":     {quote: v3, collateral: info("tdxModule", Module("")), want: format, kind: attest.ErrFormat},
		"TCB info of type 1":           {quote: v4, collateral: info("tcbType", 1), want: format, kind: attest.ErrFormat},
		"level of 15 components": {quote: v4, collateral: info("tcbLevels", []any{map[string]any{
			"tcb": map[string]any{"pcesvn": 1, "sgxtcbcomponents": []any{}}, "tcbDate": Stamp(0), "tcbStatus": "UpToDate"}}), want: format, kind: attest.ErrFormat},
		"QE identity expired":      {quote: v4, collateral: identity("nextUpdate", Stamp(-1)), want: dcap.FaultExpired, kind: attest.ErrFreshness},
		"QE identity of tomorrow":  {quote: v4, collateral: identity("issueDate", Stamp(1)), want: dcap.FaultFuture, kind: attest.ErrFreshness},
		"QE identity of version 1": {quote: v4, collateral: identity("version", 1), want: dcap.FaultCollateralMismatch, kind: attest.ErrTCB},
		"QE identity of SGX":       {quote: v4, collateral: identity("id", "QE"), want: dcap.FaultCollateralMismatch, kind: attest.ErrTCB},
		"QE identity of QVE":       {quote: v4, collateral: identity("id", "QVE"), want: dcap.FaultCollateralMismatch, kind: attest.ErrTCB},
		"TCB info rolled back": {quote: v4, collateral: info("tcbEvaluationDataNumber", 16), verifier: func(v *dcap.Verifier) { *v = *v.WithMinEvaluation(Evaluation) },
			want: dcap.FaultRollback, kind: attest.ErrFreshness},
		"QE identity rolled back": {quote: v4, collateral: identity("tcbEvaluationDataNumber", 16), verifier: func(v *dcap.Verifier) { *v = *v.WithMinEvaluation(Evaluation) },
			want: dcap.FaultRollback, kind: attest.ErrFreshness},

		"module of unknown version":   {quote: with(v4, func(q *Quote) { q.Body = put(TDTCBSVN, 6, 2, 3) }), want: dcap.FaultModule, kind: attest.ErrTCB},
		"module 16, not hexadecimal":  {quote: with(v4, func(q *Quote) { q.Body = put(TDTCBSVN, 6, 16, 3) }), want: dcap.FaultModule, kind: attest.ErrTCB},
		"module of another signer":    {quote: with(v4, func(q *Quote) { q.Body = put(TDMRSignerSeam, 1) }), want: dcap.FaultModule, kind: attest.ErrTCB},
		"module with SEAM attributes": {quote: with(v4, func(q *Quote) { q.Body = put(TDSeamAttributes, 1) }), want: dcap.FaultModule, kind: attest.ErrTCB},
		"module with SEAM attributes that TCB info has": {quote: with(v4, func(q *Quote) { q.Body = put(TDSeamAttributes, 1) }),
			collateral: Collateral{TCBInfo: func(m map[string]any) {
				module := Module("TDX_01", PartLevel(1, "UpToDate"))
				module["attributes"] = "0100000000000000"
				m["tdxModuleIdentities"] = []any{module}
			}}, want: dcap.FaultModule, kind: attest.ErrTCB},
		"module of unknown SVN": {quote: with(v4, func(q *Quote) { q.Body = put(TDTCBSVN, 0, 1, 3) }), want: dcap.FaultTCBLevel, kind: attest.ErrTCB},

		"QE report signed by another":  {quote: with(v4, func(q *Quote) {}), world: otherPCKKey, want: dcap.FaultQESignature, kind: attest.ErrSignature},
		"QE vouches for another key":   {quote: with(v4, func(q *Quote) { q.VouchFor = newKey(t) }), want: dcap.FaultQEBinding, kind: attest.ErrSignature},
		"QE report data with a rest":   {quote: with(v4, func(q *Quote) { q.QEReport = put(EnclaveReportData+32, 1) }), want: dcap.FaultQEBinding, kind: attest.ErrSignature},
		"QE of another signer":         {quote: with(v4, func(q *Quote) { q.QEReport = put(EnclaveMRSigner, 1) }), want: dcap.FaultQEIdentity, kind: attest.ErrSignature},
		"QE in debug mode":             {quote: with(v4, func(q *Quote) { q.QEReport = put(EnclaveAttributes, 0x17) }), want: dcap.FaultQEIdentity, kind: attest.ErrSignature},
		"QE of another product":        {quote: with(v4, func(q *Quote) { q.QEReport = put(EnclaveProdID, 1) }), want: dcap.FaultQEIdentity, kind: attest.ErrSignature},
		"QE with MISCSELECT":           {quote: with(v4, func(q *Quote) { q.QEReport = put(16, 1) }), want: dcap.FaultQEIdentity, kind: attest.ErrSignature},
		"QE of unknown SVN":            {quote: with(v4, func(q *Quote) { q.QEReport = put(EnclaveSVN, 0) }), want: dcap.FaultTCBLevel, kind: attest.ErrTCB},
		"platform older than all":      {quote: v3, collateral: Collateral{TCBInfo: Set("tcbLevels", []any{Level(Components, nil, PCESVN+1, "UpToDate")})}, want: dcap.FaultTCBLevel, kind: attest.ErrTCB},
		"TD's loader older than all":   {quote: with(v4, func(q *Quote) { q.Body = put(TDTCBSVN, 6, 1, 1) }), want: dcap.FaultTCBLevel, kind: attest.ErrTCB},
		"a component older than all":   {quote: v4, world: withComponents([16]uint8{2, 2, 2, 2, 3, 1, 0, 4}), want: dcap.FaultTCBLevel, kind: attest.ErrTCB},
		"module 1.0 with low SVN":      {quote: with(v4, func(q *Quote) { q.Body = put(TDTCBSVN, 4, 0, 3) }), want: dcap.FaultTCBLevel, kind: attest.ErrTCB},
		"collateral that is no JSON":   {quote: v4, collateral: Collateral{}, verifier: nil, want: format, kind: attest.ErrFormat},
		"collateral with wrong digits": {quote: v4, want: format, kind: attest.ErrFormat},
	}
}

// lastTwice repeats the last element of a sequence in DER.
func lastTwice(t *testing.T, der []byte) []byte {
	t.Helper()
	var elements []asn1.RawValue
	if _, err := asn1.Unmarshal(der, &elements); err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(append(elements, elements[len(elements)-1]))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestRevocationListThatNeverExpires: it would hold for ever, and what is revoked later would never be known.
func TestRevocationListThatNeverExpires(t *testing.T) {
	w := New(t)
	var list struct {
		TBS struct {
			Version    int
			Algorithm  pkix.AlgorithmIdentifier
			Issuer     asn1.RawValue
			This, Next time.Time
			Extensions []pkix.Extension `asn1:"tag:0,explicit"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(w.CRL(w.CA, nil), &list); err != nil {
		t.Fatal(err)
	}
	tbs, err := asn1.Marshal(struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		ThisUpdate time.Time
		Extensions []pkix.Extension `asn1:"tag:0,explicit"`
	}{list.TBS.Version, list.TBS.Algorithm, list.TBS.Issuer, list.TBS.This, list.TBS.Extensions})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(tbs)
	signature, err := ecdsa.SignASN1(rand.Reader, w.CA.Key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, list.Algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dcap.OpenPCKCRL(der, w.Chain(w.CA), w.Trust()); !errors.Is(err, dcap.FaultFormat) || !strings.Contains(err.Error(), "never expires") {
		t.Error(err)
	}
}

func otherPCKKey(w *World) {
	key := *w.PCK
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err == nil {
		key.Key = k // signs, but the certificate has another
	}
	w.PCK = &key
}

func withComponents(c [16]uint8) func(*World) {
	return func(w *World) {
		w.PCK = w.Issue(w.CA, PCKName, func(t *x509.Certificate) {
			t.ExtraExtensions = []pkix.Extension{{Id: OIDSGX(), Value: w.SGXExtension(c, PCESVN)}}
		})
	}
}

// TestFaults: each thing that can be wrong is refused, and told from all others.
func TestFaults(t *testing.T) {
	for name, f := range faults(t) {
		t.Run(name, func(t *testing.T) {
			w := New(t)
			v := &dcap.Verifier{TEE: tee(f.quote.Version), Root: w.Trust()}
			before := attest.Quote{Data: w.Quote(Quote{Version: f.quote.Version}), Endorsements: w.Endorsements(Collateral{SGX: f.quote.Version == 3})}
			if r := v.Appraise(before, Now); r.Err != nil { // authorities that it remembers must not help what is wrong
				t.Fatal(r.Err)
			}
			if f.world != nil {
				f.world(w)
			}
			if f.verifier != nil {
				f.verifier(v)
			}
			f.collateral.SGX = f.collateral.SGX || f.quote.Version == 3
			q := attest.Quote{Data: w.Quote(f.quote), Endorsements: w.Endorsements(f.collateral)}
			switch name {
			case "collateral that is no JSON":
				q.Endorsements = q.Endorsements[1:]
			case "collateral with wrong digits":
				q.Endorsements = bytes.Replace(q.Endorsements, []byte(`"pck_crl":"30`), []byte(`"pck_crl":"3x`), 1)
			}
			r := v.Appraise(q, Now)
			if !errors.Is(r.Err, f.want) || !errors.Is(r.Err, f.kind) {
				t.Errorf("%v, want %v of kind %v", r.Err, f.want, f.kind)
			}
			if _, err := r.Claims(); err == nil {
				t.Error("there are claims")
			}
		})
	}
}

func TestRevoked(t *testing.T) {
	w := New(t)
	root := w.Trust()
	seen := func(v *dcap.Verifier) { v.Root = root } // its authorities were good before
	if r := appraise(w, Quote{Version: 4}, Collateral{}, seen); r.Err != nil {
		t.Fatal(r.Err)
	}
	for name, c := range map[string]Collateral{
		"PCK":         {PCKCRL: Revoke(w.PCK)},
		"CA":          {RootCRL: Revoke(w.CA)},
		"TCB signing": {RootCRL: Revoke(w.TCBSigning)},
	} {
		if r := appraise(w, Quote{Version: 4}, c, seen); !errors.Is(r.Err, dcap.FaultRevoked) || !errors.Is(r.Err, attest.ErrSignature) {
			t.Errorf("%s: %v", name, r.Err)
		}
		r := appraise(w, Quote{Version: 4}, c, func(v *dcap.Verifier) { *v = *v.InsecureWithoutCRLs(slog.New(slog.DiscardHandler)) })
		if r.Err != nil || r.CRLs {
			t.Errorf("%s, without revocation lists: %v", name, r.Err)
		}
	}
}

// TestRevokedSigner: whoever signed any one document may have been revoked.
func TestRevokedSigner(t *testing.T) {
	w := New(t)
	first, second := w.TCBSigning, w.Issue(w.Root, TCBSigningName, nil)
	for _, revoked := range []*Authority{first, second} {
		d := w.Documents(Collateral{RootCRL: Revoke(revoked)})
		w.TCBSigning = second
		d.QEIdentity = w.Documents(Collateral{}).QEIdentity
		w.TCBSigning = first
		endorsements, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		v := &dcap.Verifier{TEE: dcap.TDX, Root: w.Trust()}
		if r := v.Appraise(attest.Quote{Data: w.Quote(Quote{Version: 4}), Endorsements: endorsements}, Now); !errors.Is(r.Err, dcap.FaultRevoked) {
			t.Error(r.Err)
		}
	}
}

// TestWithoutCRLs: revocation lists that are stale, or missing, do not matter then, and the log is told.
func TestWithoutCRLs(t *testing.T) {
	w := New(t)
	stale := func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = Now.AddDate(0, 0, -9), Now.AddDate(0, 0, -1)
	}
	var log bytes.Buffer
	insecure := func(v *dcap.Verifier) { *v = *v.InsecureWithoutCRLs(slog.New(slog.NewTextHandler(&log, nil))) }
	r := appraise(w, Quote{Version: 4}, Collateral{RootCRL: stale, PCKCRL: stale}, insecure)
	if r.Err != nil || r.CRLs || !r.Expiry.Equal(Now.AddDate(0, 0, 20)) || !strings.Contains(log.String(), "INSECURE") {
		t.Errorf("%v, CRLs %v, expires %v, log %q", r.Err, r.CRLs, r.Expiry, log.String())
	}
}

// TestFields: what is told for people names what matters, with and without collateral, also of what cannot be read.
func TestFields(t *testing.T) {
	w := New(t)
	for version, names := range map[int][]string{
		3: {"quote", "MRENCLAVE", "MRSIGNER", "ISVSVN", "debug", "FMSPC", "collateral from", "platform", "quoting enclave", "TCB status", "advisories", "expires"},
		5: {"MRTD", "RTMR3", "MRSERVICETD", "TDX module", "QE MRSIGNER", "evaluation of the TCB info", "revocation list of Intel SGX PCK Platform CA until"},
	} {
		fields := appraise(w, Quote{Version: version}, Collateral{}, nil).Fields()
		for _, name := range names {
			if !slices.ContainsFunc(fields, func(f dcap.Field) bool { return f.Name == name && f.Value != "" }) {
				t.Errorf("version %d: %s is not told", version, name)
			}
		}
	}
	v := &dcap.Verifier{TEE: dcap.TDX, Root: w.Trust()}
	if fields := v.Appraise(attest.Quote{Data: w.Quote(Quote{Version: 4})}, Now).Fields(); len(fields) < 30 {
		t.Error(fields)
	}
	if fields := v.Appraise(attest.Quote{}, Now).Fields(); len(fields) != 1 {
		t.Error(fields)
	}
}

// TestSwappedCollateral: parts that are genuine, and not what they stand for.
func TestSwappedCollateral(t *testing.T) {
	w, other := New(t), New(t)
	processor := w.Issue(w.Root, ProcessorName, w.Authority)
	namesake := w.Issue(w.Root, PlatformName, w.Authority)
	for name, c := range map[string]struct {
		change func(*dcap.Documents)
		want   dcap.Fault
	}{
		"TCB info of another world":       {func(d *dcap.Documents) { d.TCBInfo = other.Documents(Collateral{}).TCBInfo }, dcap.FaultRoot},
		"QE identity of another world":    {func(d *dcap.Documents) { d.QEIdentity = other.Documents(Collateral{}).QEIdentity }, dcap.FaultRoot},
		"root CRL of another world":       {func(d *dcap.Documents) { d.RootCRL = other.CRL(other.Root, nil) }, dcap.FaultCollateralSignature},
		"PCK CRL of another world":        {func(d *dcap.Documents) { d.PCKCRL = other.CRL(other.CA, nil) }, dcap.FaultCollateralSignature},
		"TCB info signed by PCK":          {func(d *dcap.Documents) { d.TCBInfo.Chain = w.Chain(w.PCK) }, dcap.FaultChain},
		"QE identity as TCB info":         {func(d *dcap.Documents) { d.TCBInfo = d.QEIdentity }, dcap.FaultCollateralMismatch},
		"TCB info as QE identity":         {func(d *dcap.Documents) { d.QEIdentity = d.TCBInfo }, dcap.FaultCollateralMismatch},
		"root CRL as PCK CRL":             {func(d *dcap.Documents) { d.PCKCRL = d.RootCRL }, dcap.FaultCollateralMismatch},
		"PCK CRL as root CRL":             {func(d *dcap.Documents) { d.RootCRL = d.PCKCRL }, dcap.FaultCollateralMismatch},
		"CRL of the Processor CA":         {func(d *dcap.Documents) { d.PCKCRL, d.PCKCRLChain = w.CRL(processor, nil), w.Chain(processor) }, dcap.FaultCollateralMismatch},
		"CRL of a namesake":               {func(d *dcap.Documents) { d.PCKCRL, d.PCKCRLChain = w.CRL(namesake, nil), w.Chain(namesake) }, dcap.FaultCollateralMismatch},
		"no root CRL":                     {func(d *dcap.Documents) { d.RootCRL = nil }, dcap.FaultNoCollateral},
		"no PCK CRL":                      {func(d *dcap.Documents) { d.PCKCRL = nil }, dcap.FaultNoCollateral},
		"space added to TCB info":         {func(d *dcap.Documents) { d.TCBInfo.Body = append(d.TCBInfo.Body, ' ') }, dcap.FaultCollateralSignature},
		"TCB info with a short signature": {func(d *dcap.Documents) { d.TCBInfo.Signature = d.TCBInfo.Signature[:63] }, dcap.FaultCollateralSignature},
		"PCK CRL with signature broken":   {func(d *dcap.Documents) { d.PCKCRL[len(d.PCKCRL)-1] ^= 1 }, dcap.FaultCollateralSignature},
	} {
		d := w.Documents(Collateral{})
		c.change(d)
		endorsements, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		v := &dcap.Verifier{TEE: dcap.TDX, Root: w.Trust()}
		if r := v.Appraise(attest.Quote{Data: w.Quote(Quote{Version: 4}), Endorsements: endorsements}, Now); !errors.Is(r.Err, c.want) {
			t.Errorf("%s: %v, want %v", name, r.Err, c.want)
		}
	}
}

func TestNoCollateral(t *testing.T) {
	w := New(t)
	v := &dcap.Verifier{TEE: dcap.TDX, Root: w.Trust()}
	r := v.Appraise(attest.Quote{Data: w.Quote(Quote{Version: 4})}, Now)
	if !errors.Is(r.Err, dcap.FaultNoCollateral) || !errors.Is(r.Err, attest.ErrTCB) || !strings.Contains(r.Err.Error(), FMSPC.String()) {
		t.Error(r.Err)
	}
	for _, c := range r.Checks {
		if strings.HasPrefix(c.Name, "signature") && c.Outcome != dcap.Passed {
			t.Errorf("%s: %s", c.Name, c.Outcome)
		}
	}
	// A second failure is found, but the first one is told.
	bad := w.Quote(Quote{Version: 4})
	bad[100] ^= 1
	if r := v.Appraise(attest.Quote{Data: bad}, Now); !errors.Is(r.Err, dcap.FaultNoCollateral) || !slices.ContainsFunc(r.Checks, func(c dcap.Check) bool { return errors.Is(c.Err, dcap.FaultQuoteSignature) }) {
		t.Errorf("%v: %v", r.Err, r.Checks)
	}
}

func TestDebug(t *testing.T) {
	w := New(t)
	for name, q := range map[string]Quote{
		"SGX debug":     {Version: 3, Body: put(EnclaveAttributes, 0x07)},
		"SGX, not INIT": {Version: 3, Body: put(EnclaveAttributes, 0x04)},
		"TDX debug":     {Version: 4, Body: put(TDAttributes, 0x01)},
		"TDX profiling": {Version: 5, Body: put(TDAttributes, 0x10)},
	} {
		claims, err := appraise(w, q, Collateral{}, nil).Claims()
		if err != nil || !claims.Debug {
			t.Errorf("%s: debug is %v, %v", name, claims.Debug, err)
		}
	}
	claims, err := appraise(w, Quote{Version: 4, Body: put(TDAttributes+3, 0x10)}, Collateral{}, nil).Claims() // SEPT_VE_DISABLE
	if err != nil || claims.Debug {
		t.Error("SEPT_VE_DISABLE is not debug", err)
	}
}

// TestEveryBit: no bit of what is signed can be changed. For versions 3 and 5 it is one bit of each byte.
func TestEveryBit(t *testing.T) {
	w := New(t)
	for _, version := range []int{3, 4, 5} {
		data := w.Quote(Quote{Version: version, ReportData: [64]byte{1}})
		v := &dcap.Verifier{TEE: tee(version), Root: w.Trust(), Source: fixed{open(t, w, w.Endorsements(Collateral{SGX: version == 3}))}}
		if r := v.Appraise(attest.Quote{Data: data}, Now); r.Err != nil {
			t.Fatal("control:", r.Err)
		}
		step := 1
		if testing.Short() {
			step = 61
		} else if version != 4 {
			step = 9
		}
		const stripes = 4 // side by side
		for stripe := range stripes {
			t.Run(fmt.Sprintf("version %d, stripe %d", version, stripe), func(t *testing.T) {
				t.Parallel()
				for i := stripe * step; i < 8*bytes.Index(data, []byte("-----BEGIN")); i += stripes * step {
					bad := bytes.Clone(data)
					bad[i/8] ^= 1 << (i % 8)
					if r := v.Appraise(attest.Quote{Data: bad}, Now); r.Err == nil {
						t.Fatalf("bit %d of byte %d does not count", i%8, i/8)
					}
				}
			})
		}
	}
}

// TestEveryByteOfCollateral: no byte of what Intel signs can be changed.
func TestEveryByteOfCollateral(t *testing.T) {
	w := New(t)
	d := w.Documents(Collateral{})
	tcbInfo := func() error { _, err := dcap.OpenTCBInfo(d.TCBInfo, w.Trust()); return err }
	identity := func() error { _, err := dcap.OpenQEIdentity(d.QEIdentity, w.Trust()); return err }
	for name, c := range map[string]struct {
		field *[]byte
		open  func() error
	}{
		"TCB info":                 {&d.TCBInfo.Body, tcbInfo},
		"signature of TCB info":    {&d.TCBInfo.Signature, tcbInfo},
		"QE identity":              {&d.QEIdentity.Body, identity},
		"signature of QE identity": {&d.QEIdentity.Signature, identity},
		"root CRL":                 {&d.RootCRL, func() error { _, err := dcap.OpenRootCRL(d.RootCRL, d.PCKCRLChain, w.Trust()); return err }},
		"PCK CRL":                  {&d.PCKCRL, func() error { _, err := dcap.OpenPCKCRL(d.PCKCRL, d.PCKCRLChain, w.Trust()); return err }},
	} {
		if err := c.open(); err != nil {
			t.Fatal(name, err)
		}
		right := *c.field
		for i := range right {
			*c.field = bytes.Clone(right)
			(*c.field)[i] ^= 1 << (i % 8)
			if c.open() == nil {
				t.Fatalf("%s: byte %d does not count", name, i)
			}
		}
		*c.field = right
	}
}

// fixed is a verifier's own collateral.
type fixed struct{ has *dcap.Collateral }

func (f fixed) Collateral(dcap.Need) (*dcap.Collateral, error) { return f.has, nil }
func (f fixed) MinEvaluation(dcap.TEE) uint32                  { return Evaluation }

func open(t testing.TB, w *World, endorsements []byte) *dcap.Collateral {
	t.Helper()
	d, err := dcap.ParseDocuments(endorsements)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Open(w.Trust())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOwnCollateralWins: the verifier's own is used, even where it makes the quote fail and the evidence's would not.
func TestOwnCollateralWins(t *testing.T) {
	w := New(t)
	fresh, stale := w.Endorsements(Collateral{}), w.Endorsements(Collateral{TCBInfo: Set("nextUpdate", Stamp(-1))})
	q := attest.Quote{Data: w.Quote(Quote{Version: 4}), Endorsements: fresh}
	v := &dcap.Verifier{TEE: dcap.TDX, Root: w.Trust(), Source: fixed{open(t, w, stale)}}
	if r := v.Appraise(q, Now); !errors.Is(r.Err, dcap.FaultExpired) || r.Origin != dcap.OriginStore {
		t.Errorf("%v, from %s", r.Err, r.Origin)
	}
	v.Source = fixed{open(t, w, fresh)}
	q.Endorsements = stale
	if r := v.Appraise(q, Now); r.Err != nil || r.Origin != dcap.OriginStore {
		t.Errorf("%v, from %s", r.Err, r.Origin)
	}
	v.Source = fixed{} // has nothing for this platform, but has seen a number
	q.Endorsements = w.Endorsements(Collateral{TCBInfo: Set("tcbEvaluationDataNumber", Evaluation-1)})
	if r := v.Appraise(q, Now); !errors.Is(r.Err, dcap.FaultRollback) || r.Origin != dcap.OriginEvidence {
		t.Errorf("%v, from %s", r.Err, r.Origin)
	}
}

// TestExpiryIsTheEarliest: and it is when verification begins to fail.
func TestExpiryIsTheEarliest(t *testing.T) {
	w := New(t)
	v := &dcap.Verifier{TEE: dcap.TDX, Root: w.Trust()}
	for name, c := range map[string]Collateral{
		"TCB info":    {TCBInfo: Set("nextUpdate", Stamp(3))},
		"QE identity": {QEIdentity: Set("nextUpdate", Stamp(3))},
		"root CRL":    {RootCRL: func(l *x509.RevocationList) { l.NextUpdate = Now.AddDate(0, 0, 3) }},
		"PCK CRL":     {PCKCRL: func(l *x509.RevocationList) { l.NextUpdate = Now.AddDate(0, 0, 3) }},
	} {
		q := attest.Quote{Data: w.Quote(Quote{Version: 4}), Endorsements: w.Endorsements(c)}
		r := v.Appraise(q, Now)
		if r.Err != nil || !r.Expiry.Equal(Now.AddDate(0, 0, 3)) {
			t.Errorf("%s: expires %v, %v", name, r.Expiry, r.Err)
		}
		if r := v.Appraise(q, r.Expiry.Add(-time.Second)); r.Err != nil {
			t.Errorf("%s: a second before: %v", name, r.Err)
		}
		if r := v.Appraise(q, r.Expiry); !errors.Is(r.Err, dcap.FaultExpired) {
			t.Errorf("%s: then: %v", name, r.Err)
		}
	}
}

// TestCutShort: a quote cut at any place is malformed, as is one whose inner lengths are wrong.
func TestCutShort(t *testing.T) {
	w := New(t)
	for _, version := range []int{3, 4, 5} {
		data := w.Quote(Quote{Version: version})
		for i := range data {
			if _, err := dcap.ParseQuote(data[:i]); err == nil {
				t.Fatalf("version %d: accepted %d of %d bytes", version, i, len(data))
			}
		}
		if _, err := dcap.ParseQuote(append(data, 1)); !errors.Is(err, dcap.FaultFormat) {
			t.Errorf("version %d: accepted a trailing byte: %v", version, err)
		}
	}
	// Bytes left over within the signature data, and within the envelope in it.
	for version, sizes := range map[int][][]int{3: {{432}}, 4: {{632}, {632, 632 + 4 + 64 + 64 + 2}}} {
		for _, places := range sizes {
			data := append(w.Quote(Quote{Version: version}), 0)
			for _, at := range places {
				binary.LittleEndian.PutUint32(data[at:], binary.LittleEndian.Uint32(data[at:])+1)
			}
			if _, err := dcap.ParseQuote(data); !errors.Is(err, dcap.FaultFormat) || !strings.Contains(err.Error(), "left over") {
				t.Errorf("version %d, sizes at %v: %v", version, places, err)
			}
		}
	}
	// The 16-bit size of the QE's data: the one that other parsers have trusted.
	data := w.Quote(Quote{Version: 4})
	at := 48 + 584 + 4 + 64 + 64 + 6 + 384 + 64
	if binary.LittleEndian.Uint16(data[at:]) != 32 {
		t.Fatal("the size is elsewhere")
	}
	data[at], data[at+1] = 0xFF, 0xFF
	if _, err := dcap.ParseQuote(data); !errors.Is(err, dcap.FaultFormat) {
		t.Error(err)
	}
}

// FuzzQuote reads whatever there is, without verifying it.
func FuzzQuote(f *testing.F) {
	w := Fixed(f)
	for _, q := range []Quote{{Version: 3}, {Version: 4, Padding: 9}, {Version: 5}, {Version: 5, TD10: true}} {
		q.Chain = []byte("-----BEGIN CERTIFICATE-----")
		f.Add(w.Quote(q))
	}
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		q, err := dcap.ParseQuote(data)
		if (err == nil) != (q != nil) || err == nil && (len(q.ReportData()) != 64 || (q.TD == nil) == (q.Enclave == nil) || len(q.PCKChain)+len(q.QEAuthData) > len(data)) {
			t.Errorf("%+v, %v", q, err)
		}
	}))
}

// FuzzAppraise changes a few bytes of a genuine quote: what is signed must not be accepted, and nothing may panic.
func FuzzAppraise(f *testing.F) {
	w := Fixed(f)
	versions := []int{3, 4, 5}
	for i := range versions {
		f.Add(uint8(i), uint16(0), []byte{0xFF}, uint16(0))
		f.Add(uint8(i), uint16(1218), []byte{0xFF, 0xFF}, uint16(1))
		f.Add(uint8(i), uint16(1500), []byte("-----END CERTIFICATE-----"), uint16(0))
	}
	quotes, verifiers := map[int][]byte{}, map[int]*dcap.Verifier{}
	for _, version := range versions {
		quotes[version] = w.Quote(Quote{Version: version, ReportData: [64]byte{1}})
		verifiers[version] = &dcap.Verifier{TEE: tee(version), Root: w.Trust(), Source: fixed{open(f, w, w.Endorsements(Collateral{SGX: version == 3}))}}
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint16, patch []byte, cut uint16) {
		version := versions[int(which)%len(versions)]
		right := quotes[version]
		data := bytes.Clone(right)
		copy(data[int(at)%len(data):], patch)
		data = data[:len(data)-int(cut)%len(data)]
		signed := bytes.Index(right, []byte("-----BEGIN"))
		var r *dcap.Report
		fuzzbound.Check(t, len(data), func() { r = verifiers[version].Appraise(attest.Quote{Data: data}, Now) })
		if r.Err == nil && !bytes.Equal(data[:min(signed, len(data))], right[:signed]) {
			t.Errorf("accepted a change of what is signed")
		}
	})
}

// FuzzDocuments reads collateral as it comes with evidence.
func FuzzDocuments(f *testing.F) {
	w := Fixed(f)
	f.Add([]byte(`{"root_ca_crl":"00","pck_crl":"","tcb_info":"{}","tcb_info_signature":"00","qe_identity":"{}"}`))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		d, err := dcap.ParseDocuments(data)
		if err != nil {
			return
		}
		if _, err := d.Open(w.Trust()); err == nil {
			t.Error("opened collateral that nobody has signed")
		}
	}))
}

// BenchmarkVerify verifies with collateral at hand, and with what comes with the evidence, whose signatures count each time.
func BenchmarkVerify(b *testing.B) {
	w := New(b)
	for _, c := range []struct {
		name    string
		version int
	}{{"SGX", 3}, {"TDX", 4}} {
		endorsements := w.Endorsements(Collateral{SGX: c.version == 3})
		warm := &dcap.Verifier{TEE: tee(c.version), Root: w.Trust(), Source: fixed{open(b, w, endorsements)}}
		cold := &dcap.Verifier{TEE: tee(c.version), Root: w.Trust()}
		q := attest.Quote{Data: w.Quote(Quote{Version: c.version}), Endorsements: endorsements}
		for name, v := range map[string]*dcap.Verifier{"warm": warm, "cold": cold} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				for b.Loop() {
					if r := v.Appraise(q, Now); r.Err != nil {
						b.Fatal(r.Err)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "verifications/s")
			})
		}
	}
}

// FuzzCertificates reads arbitrary bytes as a chain and as a revocation list.
func FuzzCertificates(f *testing.F) {
	w := Fixed(f)
	f.Add(w.Chain(w.CA), w.CRL(w.CA, nil))
	f.Add(w.Chain(w.PCK), w.CRL(w.Root, Revoke(w.CA)))
	root, issuers := w.Trust(), w.Chain(w.CA)
	f.Fuzz(fuzzbound.OfTwo(func(t *testing.T, chain, list []byte) {
		for name, open := range map[string]func() (*dcap.CRL, error){
			"list of the root":      func() (*dcap.CRL, error) { return dcap.OpenRootCRL(list, issuers, root) },
			"list of the authority": func() (*dcap.CRL, error) { return dcap.OpenPCKCRL(list, chain, root) },
		} {
			if l, err := open(); err == nil && l.NextUpdate().IsZero() {
				t.Errorf("%s: one that never expires", name)
			}
		}
	}))
}
