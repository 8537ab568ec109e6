package sgx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
)

// Device is where Gramine puts its files.
const Device = "/dev/attestation"

// Files of the device.
const (
	typeFile       = "attestation_type"
	reportDataFile = "user_report_data"
	quoteFile      = "quote"
	maxQuote       = 8192 // that Gramine makes
)

// errInterfered: the quote is over other report data than was written.
var errInterfered = errors.New("the quote is over other report data than was asked for: something else in this enclave writes to " + reportDataFile)

// turn is held by who uses the device. Gramine keeps one report data for the whole process and leaves it to the process that nobody
// writes between another's write and read, so the lock is as wide as the process, whatever the number of attesters.
var turn = make(chan struct{}, 1)

// Attester makes quotes of the enclave that it runs in.
type Attester struct {
	device string
	store  *collateral.Store
}

// NewAttester returns an attester over the device folder ("" is Device), or says why there is none. The store's collateral for this machine goes
// with each quote; it may be nil.
func NewAttester(device string, store *collateral.Store) (*Attester, error) {
	if device == "" {
		device = Device
	}
	kind, err := os.ReadFile(filepath.Join(device, typeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, attest.Errorf(attest.ErrAttester, "%s is not there: this is no SGX enclave of Gramine: %w", device, err)
	}
	if err != nil {
		return nil, attest.Errorf(attest.ErrAttester, "SGX attester: %w", err)
	}
	if text := strings.Trim(string(kind), "\x00\n"); text != "dcap" {
		return nil, attest.Errorf(attest.ErrAttester, "Gramine attests by %q, not by \"dcap\": set sgx.remote_attestation in the manifest", text)
	}
	return &Attester{device: device, store: store}, nil
}

// Platform returns attest.SGX.
func (a *Attester) Platform() attest.Platform { return attest.SGX }

// Attest makes a quote. If ctx ends before the device answers, the device stays taken until it does.
func (a *Attester) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return attest.Quote{}, ctx.Err()
	}
	type answer struct {
		quote []byte
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		defer func() { <-turn }()
		quote, err := a.quote(data)
		done <- answer{quote, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return attest.Quote{}, r.err
		}
		return a.store.Endorse(attest.Quote{Platform: attest.SGX, Data: r.quote}), nil
	case <-ctx.Done():
		return attest.Quote{}, ctx.Err()
	}
}

func (a *Attester) quote(data attest.ReportData) ([]byte, error) {
	if err := a.writeReportData(data); err != nil {
		return nil, fmt.Errorf("write %s: %w", reportDataFile, err)
	}
	quote, err := a.readQuote()
	if err != nil {
		return nil, fmt.Errorf("read %s (is the host's quoting service running?): %w", quoteFile, err)
	}
	parsed, err := dcap.ParseQuote(quote)
	if err != nil {
		return nil, fmt.Errorf("quote of Gramine: %w", err)
	}
	if parsed.TEE != dcap.SGX || [64]byte(parsed.ReportData()) != data {
		return nil, errInterfered
	}
	return quote, nil
}

// writeReportData writes all 64 bytes at once: each write replaces the whole, and Gramine fills up with zeros.
func (a *Attester) writeReportData(data attest.ReportData) error {
	f, err := os.OpenFile(filepath.Join(a.device, reportDataFile), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data[:])
	return errors.Join(err, f.Close())
}

// readQuote reads the quote, which Gramine makes when the file is opened.
func (a *Attester) readQuote() ([]byte, error) {
	f, err := os.Open(filepath.Join(a.device, quoteFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	quote, err := io.ReadAll(io.LimitReader(f, maxQuote+1))
	if err == nil && len(quote) > maxQuote {
		err = fmt.Errorf("it is larger than %d bytes", maxQuote)
	}
	return quote, err
}
