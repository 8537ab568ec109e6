package dcap

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tdx-guest/abi"
	pb "github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/verify"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/samples"
)

// oracle asks another implementation, which knows TDX only. It never trusts this one's reading of anything; it
// panics on some quotes, and takes part in tests only.
func oracle(quote []byte, d *Documents, day string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	now := at(day)
	return verify.RawTdxQuote(quote, &verify.Options{
		CheckRevocations: len(d.PCKCRL) > 0, GetCollateral: true, Getter: served{d},
		Now: &verify.TimeSet{PckCertChain: now, TcbInfo: now, QeIdentity: now, PckCrl: now, RootCaCrl: now},
	})
}

// served answers as Intel's service does.
type served struct{ d *Documents }

func (s served) Get(address string) (map[string][]string, []byte, error) {
	chain := func(pem []byte) []string { return []string{url.QueryEscape(string(pem))} }
	switch {
	case strings.Contains(address, "/tcb?"):
		return map[string][]string{"Tcb-Info-Issuer-Chain": chain(s.d.TCBInfo.Chain)}, s.d.TCBInfo.JoinTCBInfo(), nil
	case strings.Contains(address, "/qe/identity"):
		return map[string][]string{"Sgx-Enclave-Identity-Issuer-Chain": chain(s.d.QEIdentity.Chain)}, s.d.QEIdentity.JoinQEIdentity(), nil
	case strings.Contains(address, "/pckcrl"):
		return map[string][]string{"Sgx-Pck-Crl-Issuer-Chain": chain(s.d.PCKCRLChain)}, s.d.PCKCRL, nil
	case strings.Contains(address, "IntelSGXRootCA"):
		return nil, s.d.RootCRL, nil
	}
	return nil, nil, fmt.Errorf("nothing is served at %s", address)
}

// TestOracle: another implementation agrees on published quotes, but for one known fault: it reports the status of the TDX
// module for that of the platform, and so accepts platforms that are out of date.
func TestOracle(t *testing.T) {
	const wrong = true
	for _, c := range []struct {
		quote      string
		collateral collateral
		day        string
		differs    bool
	}{
		{"tdx/dcap-qvl/tdx_quote", tdxQvl, "2025-06-25", false},
		{"tdx/dcap-qvl/tdx_quote_outdated", tdxOutdated, "2026-02-23", false},
		{"tdx/dcap-qvl/quote-from-tappd.hex", tdxQvl, "2025-06-25", false},
		{"tdx/dcap-qvl/tdx-quote.hex", tdxQvl, "2025-06-25", false},
		{"tdx/automata/quotev4.hex", tdx0625, "2025-06-25", wrong},
		{"tdx/automata/quotev4.hex", tdx1025, "2025-10-25", wrong},
		{"tdx/automata/quotes_alibaba_quote_5.dat", tdx0625Alibaba, "2025-06-25", false},
		{"tdx/automata/quotes_alibaba_quote_5.dat", tdxOutdated, "2026-02-23", false},
		{"azure-vtpm/trustee/tdx/td-quote.bin", tdx1025, "2025-10-25", false},
		{"tdx/dcap-qvl/tdx_quote", tdxQvl, "2026-06-01", false},      // stale
		{"tdx/dcap-qvl/tdx_quote", tdxOutdated, "2026-02-23", false}, // another platform's
	} {
		d, quote := sampleDocuments(t, c.collateral), sampleQuote(t, c.quote)
		endorsements, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		v := &Verifier{TEE: TDX, Root: IntelRoot()}
		r := v.Appraise(attest.Quote{Data: quote, Endorsements: endorsements}, at(c.day))
		ours := r.Err == nil && r.TCB == attest.TCBUpToDate // all that the oracle accepts
		other := oracle(quote, d, c.day)
		if (ours != (other == nil)) != c.differs {
			t.Errorf("%s at %s: %s, %v; the oracle says %v", c.quote, c.day, r.TCB, r.Err, other)
		}
		if c.differs && (other != nil || r.TCB != attest.TCBOutOfDate) {
			t.Errorf("%s: no longer differs as it did: %s, %v; the oracle says %v", c.quote, r.TCB, r.Err, other)
		}
	}
}

// TestOraclePanics: a quote with a size that goes beyond its end, which panics another implementation, is malformed.
func TestOraclePanics(t *testing.T) {
	quote := samples.Read(t, "tdx/dcap-qvl/tdx_quote")
	quote[1218], quote[1219] = 0xFF, 0xFF
	if _, err := ParseQuote(quote); !errors.Is(err, FaultFormat) {
		t.Error(err)
	}
	if err := oracle(quote, sampleDocuments(t, tdxQvl), "2025-06-25"); err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("the oracle no longer panics, it says %v: see whether it can be trusted with more", err)
	}
}

// TestOracleReads: fields of published quotes are where another implementation finds them.
func TestOracleReads(t *testing.T) {
	for _, name := range []string{"tdx/dcap-qvl/tdx_quote", "tdx/trustee/tdx_quote_4.dat", "tdx/dcap-qvl/quote-from-tappd.hex"} {
		data := sampleQuote(t, name)
		q, err := ParseQuote(data)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := abi.QuoteToProto(data)
		if err != nil {
			t.Fatal(err)
		}
		theirs, ok := parsed.(*pb.QuoteV4)
		if !ok {
			t.Fatalf("%s is %T", name, parsed)
		}
		b := theirs.GetTdQuoteBody()
		for field, pair := range map[string][2][]byte{
			"TEE_TCB_SVN":   {b.GetTeeTcbSvn(), q.TD.TEETCBSVN[:]},
			"MRSEAM":        {b.GetMrSeam(), q.TD.MRSeam[:]},
			"MRSIGNERSEAM":  {b.GetMrSignerSeam(), q.TD.MRSignerSeam[:]},
			"TDATTRIBUTES":  {b.GetTdAttributes(), q.TD.Attributes[:]},
			"XFAM":          {b.GetXfam(), q.TD.XFAM[:]},
			"MRTD":          {b.GetMrTd(), q.TD.MRTD[:]},
			"MRCONFIGID":    {b.GetMrConfigId(), q.TD.MRConfigID[:]},
			"MROWNER":       {b.GetMrOwner(), q.TD.MROwner[:]},
			"MROWNERCONFIG": {b.GetMrOwnerConfig(), q.TD.MROwnerConfig[:]},
			"RTMRs":         {slices.Concat(b.GetRtmrs()...), slices.Concat(q.TD.RTMR[0][:], q.TD.RTMR[1][:], q.TD.RTMR[2][:], q.TD.RTMR[3][:])},
			"REPORTDATA":    {b.GetReportData(), q.TD.ReportData[:]},
			"user data":     {theirs.GetHeader().GetUserData(), q.UserData[:]},
		} {
			if !bytes.Equal(pair[0], pair[1]) {
				t.Errorf("%s: %s is %x there and %x here", name, field, pair[0], pair[1])
			}
		}
	}
}
