package sgx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	. "github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
)

// gramine is a fake of Gramine's /dev/attestation: FIFOs in a folder. What comes in one write to user_report_data
// counts as one write; the quote is made when its file is opened.
type gramine struct {
	dir    string
	writes [][]byte
	mu     sync.Mutex
}

// newGramine serves quotes that answer makes of the report data, until the test ends.
func newGramine(t *testing.T, answer func(data []byte) []byte) *gramine {
	t.Helper()
	g := &gramine{dir: t.TempDir()}
	write(t, filepath.Join(g.dir, typeFile), []byte("dcap\x00"))
	for _, name := range []string{reportDataFile, quoteFile} {
		if err := syscall.Mkfifo(filepath.Join(g.dir, name), 0o600); err != nil {
			t.Skip("no FIFOs here:", err)
		}
	}
	var done sync.WaitGroup
	stop := make(chan struct{})
	done.Go(func() { g.serve(stop, answer) })
	t.Cleanup(func() {
		close(stop)
		// Whatever end it waits for, it gets, and goes.
		f, err := os.OpenFile(filepath.Join(g.dir, reportDataFile), os.O_RDWR|syscall.O_NONBLOCK, 0)
		q, err2 := os.OpenFile(filepath.Join(g.dir, quoteFile), os.O_RDWR|syscall.O_NONBLOCK, 0)
		if err == nil {
			_, _ = f.Write([]byte{0})
			defer f.Close()
		}
		if err2 == nil {
			defer q.Close()
		}
		done.Wait()
	})
	return g
}

func (g *gramine) serve(stop chan struct{}, answer func([]byte) []byte) {
	for {
		f, err := os.Open(filepath.Join(g.dir, reportDataFile))
		if err != nil {
			return
		}
		b := make([]byte, 4096)
		n, _ := f.Read(b)
		f.Close()
		select {
		case <-stop:
			return
		default:
		}
		g.mu.Lock()
		g.writes = append(g.writes, b[:n])
		g.mu.Unlock()
		q, err := os.OpenFile(filepath.Join(g.dir, quoteFile), os.O_WRONLY, 0)
		if err != nil {
			return
		}
		_, _ = q.Write(answer(b[:n])) // the reader may have gone
		q.Close()
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func attester(t *testing.T, dir string, store *collateral.Store) *Attester {
	t.Helper()
	a, err := NewAttester(dir, store)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var data = attest.ReportData{1, 2, 3, 63: 4}

func TestAttest(t *testing.T) {
	w := New(t)
	g := newGramine(t, func(data []byte) []byte { return w.Quote(Quote{Version: 3, ReportData: [64]byte(data)}) })
	a := attester(t, g.dir, nil)
	q, err := a.Attest(context.Background(), data)
	if err != nil || q.Platform != attest.SGX || a.Platform() != attest.SGX {
		t.Fatal(err)
	}
	q.Endorsements = w.Endorsements(Collateral{SGX: true})
	v := &Verifier{TEE: dcap.SGX, Root: w.Trust()}
	claims, err := v.Verify(context.Background(), q, data, Now)
	if err != nil || !bytes.Equal(claims.ReportData, data[:]) {
		t.Error(claims, err)
	}
	if len(g.writes) != 1 || !bytes.Equal(g.writes[0], data[:]) {
		t.Errorf("report data was written as %x", g.writes)
	}
}

// TestOneAtATime: two attesters in one process do not get in each other's way.
func TestOneAtATime(t *testing.T) {
	w := New(t)
	g := newGramine(t, func(data []byte) []byte { return w.Quote(Quote{Version: 3, ReportData: [64]byte(data)}) })
	var all sync.WaitGroup
	for i := range 8 {
		a := attester(t, g.dir, nil)
		all.Go(func() {
			if _, err := a.Attest(context.Background(), attest.ReportData{byte(i), 1}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestEndorsed: collateral of the store goes with the quote.
func TestEndorsed(t *testing.T) {
	w := New(t)
	store, err := collateral.OpenUnder(t.TempDir(), w.Trust())
	if err != nil {
		t.Fatal(err)
	}
	g := newGramine(t, func(data []byte) []byte { return w.Quote(Quote{Version: 3, ReportData: [64]byte(data)}) })
	a := attester(t, g.dir, store)
	if q, err := a.Attest(context.Background(), data); err != nil || q.Endorsements != nil {
		t.Error("an empty store endorses:", err)
	}
	d := w.Documents(Collateral{SGX: true})
	for name, document := range map[collateral.Name]collateral.Document{
		{Kind: collateral.TCBInfo, FMSPC: FMSPC}:             {Body: d.TCBInfo.JoinTCBInfo(), Chain: d.TCBInfo.Chain},
		{Kind: collateral.QEIdentity}:                        {Body: d.QEIdentity.JoinQEIdentity(), Chain: d.QEIdentity.Chain},
		{Kind: collateral.PCKCRL, CA: collateral.CAPlatform}: {Body: d.PCKCRL, Chain: d.PCKCRLChain},
		{Kind: collateral.RootCRL}:                           {Body: d.RootCRL, Chain: d.PCKCRLChain},
	} {
		document.Name = name
		if err := store.Put(document, Now); err != nil {
			t.Fatal(err)
		}
	}
	q, err := a.Attest(context.Background(), data)
	if err != nil {
		t.Fatal(err)
	}
	v := &Verifier{TEE: dcap.SGX, Root: w.Trust()}
	if r := v.Appraise(q, Now); r.Err != nil || r.Origin != dcap.OriginEvidence {
		t.Error(r.Err)
	}
	if NewVerifier(nil).Source != nil || NewVerifier(store).Source == nil {
		t.Error("the verifier's source is not the store")
	}
}

func TestDeviceFails(t *testing.T) {
	w := New(t)
	quote := w.Quote(Quote{Version: 3, ReportData: data})
	for name, c := range map[string]struct {
		answer []byte
		want   error
	}{
		"quote cut short": {quote[:1000], dcap.FaultFormat},
		"no quote":        {nil, dcap.FaultFormat},
		"too large":       {make([]byte, maxQuote+1), nil},
		"another's quote": {w.Quote(Quote{Version: 3}), errInterfered},
		"quote of a TD":   {w.Quote(Quote{Version: 4, ReportData: data}), errInterfered},
	} {
		g := newGramine(t, func([]byte) []byte { return c.answer })
		_, err := attester(t, g.dir, nil).Attest(context.Background(), data)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFilesGone: the device goes away, or never was there. Here the files are plain ones.
func TestFilesGone(t *testing.T) {
	dir := t.TempDir()
	if _, err := NewAttester(dir, nil); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, attest.ErrAttester) {
		t.Error(err)
	}
	write(t, filepath.Join(dir, typeFile), []byte("none\n"))
	if _, err := NewAttester(dir, nil); err == nil || !strings.Contains(err.Error(), "remote_attestation") {
		t.Error(err)
	}
	write(t, filepath.Join(dir, typeFile), []byte("dcap"))
	a := attester(t, dir, nil)
	if _, err := a.Attest(context.Background(), data); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), reportDataFile) {
		t.Error(err)
	}
	write(t, filepath.Join(dir, reportDataFile), nil)
	if _, err := a.Attest(context.Background(), data); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), quoteFile) {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, reportDataFile)); err != nil || !bytes.Equal(got, data[:]) {
		t.Errorf("%x, %v", got, err)
	}
	// Gramine says EACCES for whatever goes wrong in the quoting service.
	if err := os.Mkdir(filepath.Join(dir, quoteFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Attest(context.Background(), data); err == nil || !strings.Contains(err.Error(), "quoting service") {
		t.Error(err)
	}
}

// TestContext: who waits goes when its time is up; the device stays taken until it answers.
func TestContext(t *testing.T) {
	w := New(t)
	release := make(chan struct{})
	g := newGramine(t, func(data []byte) []byte {
		<-release
		return w.Quote(Quote{Version: 3, ReportData: [64]byte(data)})
	})
	a := attester(t, g.dir, nil)
	for range 2 { // the first waits for the quote, the second for its turn
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		if _, err := a.Attest(ctx, data); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
	}
	close(release)
	if _, err := a.Attest(context.Background(), data); err != nil && !errors.Is(err, io.EOF) {
		t.Error("afterwards:", err)
	}
}
