package nitro

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/hf/nsm"
	"github.com/hf/nsm/request"
	"github.com/hf/nsm/response"

	"github.com/vouchmq/vouchmq/attest"
)

// Device is where an enclave finds its security module.
const Device = "/dev/nsm"

// ModulePCR is extended with the digest of the broker's module.
const ModulePCR = 16

// ErrNoDevice says that this program does not run in a Nitro enclave.
var ErrNoDevice = errors.New("there is no " + Device + ": this is not a Nitro enclave")

// Attester makes documents with the enclave's security module. It may be used by many goroutines; the device serves one at a
// time.
type Attester struct {
	mu      sync.Mutex
	session session
}

// session is what is used of an nsm.Session.
type session interface {
	Send(request.Request) (response.Response, error)
	Close() error
}

// NewAttester opens the device.
func NewAttester() (*Attester, error) { return open(nsm.DefaultOptions) }

func open(options nsm.Options) (*Attester, error) {
	s, err := nsm.OpenSession(options)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoDevice
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", Device, err)
	}
	return &Attester{session: s}, nil
}

// Close closes the device. No request may be under way.
func (a *Attester) Close() error { return a.session.Close() }

// Platform returns attest.Nitro.
func (a *Attester) Platform() attest.Platform { return attest.Nitro }

// Attest has a document made with the report data as user_data. The device answers within milliseconds; one that does not
// is waited for no longer than ctx lasts.
func (a *Attester) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	type result struct {
		response.Response
		err error
	}
	done := make(chan result, 1)
	go func() {
		r, err := a.send(ctx, &request.Attestation{UserData: data[:]})
		done <- result{r, err}
	}()
	select {
	case <-ctx.Done():
		return attest.Quote{}, ctx.Err()
	case r := <-done:
		if r.err != nil {
			return attest.Quote{}, r.err
		}
		if r.Attestation == nil || len(r.Attestation.Document) == 0 {
			return attest.Quote{}, fmt.Errorf("%s gave an answer without a document", Device)
		}
		return attest.Quote{Platform: attest.Nitro, Data: r.Attestation.Document}, nil
	}
}

// Measure extends PCR16 with the digest of the module, and locks it: only then does it appear in documents, and nothing can
// be added to it until the enclave ends. If it holds this module and nothing else already, since the broker was started before, it stays as it
// is; if it is locked with anything else, that is an error.
func (a *Attester) Measure(ctx context.Context, module attest.Digest) error {
	r, err := a.send(ctx, &request.DescribePCR{Index: ModulePCR})
	if err != nil {
		return fmt.Errorf("read PCR%d: %w", ModulePCR, err)
	}
	if r.DescribePCR == nil || len(r.DescribePCR.Data) != attest.DigestSize {
		return fmt.Errorf("read PCR%d: %s gave an answer without its value", ModulePCR, Device)
	}
	before, locked := attest.Digest(r.DescribePCR.Data), r.DescribePCR.Lock
	alone := before == extended(attest.Digest{}, module)
	switch {
	case locked && alone:
		return nil
	case locked:
		return fmt.Errorf("PCR%d is locked and holds %x, which is not what this module makes of it (%s): another one was started before; end the enclave and start it again",
			ModulePCR, before[:], module)
	case alone:
		return a.lock(ctx)
	}
	return a.extend(ctx, before, module)
}

func (a *Attester) extend(ctx context.Context, before, module attest.Digest) error {
	if _, err := a.send(ctx, &request.ExtendPCR{Index: ModulePCR, Data: module[:]}); err != nil {
		return fmt.Errorf("extend PCR%d with the module's digest: %w", ModulePCR, err)
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	if (before != attest.Digest{}) {
		after := extended(before, module)
		return attest.NotAlone(fmt.Sprintf("PCR%d", ModulePCR), before[:], after[:])
	}
	return nil
}

func (a *Attester) lock(ctx context.Context) error {
	if _, err := a.send(ctx, &request.LockPCR{Index: ModulePCR}); err != nil {
		return fmt.Errorf("lock PCR%d: %w", ModulePCR, err)
	}
	return nil
}

// extended is the value of a PCR that has been extended: SHA-384 of its old value and what was added.
func extended(before, digest attest.Digest) attest.Digest {
	return attest.Sum(append(before[:], digest[:]...))
}

func (a *Attester) send(ctx context.Context, r request.Request) (response.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return response.Response{}, err // given up while it waited for its turn
	}
	answer, err := a.session.Send(r)
	if err != nil {
		return answer, fmt.Errorf("%s: %w", Device, err)
	}
	if answer.Error != "" && answer.Error != response.ECSuccess {
		return answer, fmt.Errorf("%s: %s", Device, answer.Error)
	}
	return answer, nil
}
