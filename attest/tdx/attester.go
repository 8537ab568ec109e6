package tdx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-configfs-tsm/report"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
)

const (
	provider = "tdx_guest" // as the kernel names its driver
	attempts = 4           // at a quote, while others get in the way
)

// errInterfered: the quote is over other report data than was written.
var errInterfered = errors.New("the quote is over other report data than was asked for: something else writes to the same entry")

// Attester makes quotes of the TD that it runs in.
type Attester struct {
	client configfsi.Client
	store  *collateral.Store
}

// NewAttester returns an attester over the kernel's configfs-tsm (Linux 6.7 and later), or says why there is none. The store's collateral
// for this machine goes with each quote; it may be nil.
func NewAttester(store *collateral.Store) (*Attester, error) {
	client, err := linuxtsm.MakeClient()
	if err != nil {
		return nil, attest.Errorf(attest.ErrAttester, "configfs-tsm is not there: this is no confidential VM, or configfs is not mounted, or its kernel is older than 6.7: %w", err)
	}
	return newAttester(client, store), nil
}

func newAttester(client configfsi.Client, store *collateral.Store) *Attester {
	return &Attester{client: client, store: store}
}

// Platform returns attest.TDX.
func (a *Attester) Platform() attest.Platform { return attest.TDX }

// Attest makes a quote. If ctx ends before the kernel answers, the answer is thrown away when it comes.
func (a *Attester) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	if err := ctx.Err(); err != nil {
		return attest.Quote{}, err
	}
	type answer struct {
		quote []byte
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		quote, err := a.patiently(ctx, data)
		done <- answer{quote, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return attest.Quote{}, r.err
		}
		return a.store.Endorse(attest.Quote{Platform: attest.TDX, Data: r.quote}), nil
	case <-ctx.Done():
		return attest.Quote{}, ctx.Err()
	}
}

// patiently tries again while the kernel is busy or others write to the entry. Each attempt has an entry of its own.
func (a *Attester) patiently(ctx context.Context, data attest.ReportData) (quote []byte, err error) {
	for range attempts {
		if quote, err = a.quote(data); err == nil || !transient(err) || ctx.Err() != nil {
			return quote, err
		}
	}
	return nil, fmt.Errorf("%d attempts: %w", attempts, err)
}

func transient(err error) bool {
	var generation *report.GenerationErr
	return errors.As(err, &generation) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR)
}

func (a *Attester) quote(data attest.ReportData) ([]byte, error) {
	client := &tracing{Client: a.client}
	response, err := report.Get(client, &report.Request{InBlob: data[:]})
	if err != nil {
		return nil, client.explain(err)
	}
	if got := strings.TrimSpace(response.Provider); got != provider {
		return nil, fmt.Errorf("the kernel attests by %q, not by %q: this is another kind of confidential VM", got, provider)
	}
	parsed, err := dcap.ParseQuote(response.OutBlob)
	if err != nil {
		return nil, fmt.Errorf("the kernel's quote: %w", err)
	}
	if parsed.TEE != dcap.TDX || [64]byte(parsed.ReportData()) != data {
		return nil, errInterfered
	}
	return response.OutBlob, nil
}

// tracing remembers the kernel's first error: the library passes on its text only.
type tracing struct {
	configfsi.Client
	first error
}

func (t *tracing) note(err error) error {
	if t.first == nil {
		t.first = err
	}
	return err
}

// MkdirTemp makes an entry.
func (t *tracing) MkdirTemp(dir, pattern string) (string, error) {
	name, err := t.Client.MkdirTemp(dir, pattern)
	return name, t.note(err)
}

// ReadFile reads an attribute.
func (t *tracing) ReadFile(name string) ([]byte, error) {
	data, err := t.Client.ReadFile(name)
	return data, t.note(err)
}

// WriteFile writes an attribute.
func (t *tracing) WriteFile(name string, contents []byte) error {
	return t.note(t.Client.WriteFile(name, contents))
}

// RemoveAll removes an entry.
func (t *tracing) RemoveAll(name string) error { return t.note(t.Client.RemoveAll(name)) }

func (t *tracing) explain(err error) error {
	switch {
	case t.first == nil:
		return err
	case errors.Is(t.first, os.ErrPermission):
		return fmt.Errorf("%v: making quotes needs root: %w", err, t.first)
	}
	return fmt.Errorf("%v: %w", err, t.first)
}
