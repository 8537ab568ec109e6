package tsm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-configfs-tsm/report"

	"github.com/vouchmq/vouchmq/attest"
)

const attempts = 4 // at a report, while others get in the way

// ErrInterfered: the report is over other data than was written.
var ErrInterfered = errors.New("the quote is over other report data than was asked for: something else writes to the same entry")

// Source is the kernel as a source of reports of one provider. It may be used by many goroutines.
type Source struct {
	Client   configfsi.Client
	Provider string // as the kernel names its driver, e.g. tdx_guest
	Aux      bool   // the provider gives certificates along (auxblob)
	// Check says why a report is not over the data, with ErrInterfered if it is otherwise as it should be.
	Check func(out []byte, data attest.ReportData) error
}

// Client returns the kernel's configfs-tsm, or says why there is none.
func Client() (configfsi.Client, error) {
	client, err := linuxtsm.MakeClient()
	if err != nil {
		return nil, attest.Errorf(attest.ErrAttester, "configfs-tsm is not there: this is no confidential VM, or configfs is not mounted, or its kernel is older than 6.7: %w", err)
	}
	return client, nil
}

// Provider says by what driver the kernel attests, e.g. tdx_guest. The error is the kernel's: syscall.ENXIO where there is none.
func Provider(kernel configfsi.Client) (string, error) {
	client := &tracing{Client: kernel}
	entry, err := report.CreateOpenReport(client)
	if err != nil {
		return "", client.explain(err)
	}
	defer func() { _ = entry.Destroy() }() // what counts has been read
	err = entry.WriteOption("inblob", make([]byte, attest.ReportDataSize))
	var name []byte
	if err == nil {
		name, err = entry.ReadOption("provider")
	}
	if err != nil {
		return "", client.explain(err)
	}
	return strings.TrimSpace(string(name)), nil
}

// Report makes a report. If ctx ends before the kernel answers, the answer is thrown away when it comes.
func (s *Source) Report(ctx context.Context, data attest.ReportData) (out, aux []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	type answer struct {
		response *report.Response
		err      error
	}
	done := make(chan answer, 1)
	go func() {
		response, err := s.patiently(ctx, data)
		done <- answer{response, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, nil, r.err
		}
		return r.response.OutBlob, r.response.AuxBlob, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// patiently tries again while the kernel is busy or others write to the entry. Each attempt has an entry of its own.
func (s *Source) patiently(ctx context.Context, data attest.ReportData) (r *report.Response, err error) {
	for range attempts {
		if r, err = s.report(data); err == nil || !transient(err) || ctx.Err() != nil {
			return r, err
		}
	}
	return nil, fmt.Errorf("%d attempts: %w", attempts, err)
}

func transient(err error) bool {
	var generation *report.GenerationErr
	return errors.As(err, &generation) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR)
}

func (s *Source) report(data attest.ReportData) (r *report.Response, err error) {
	client := &tracing{Client: s.Client}
	if r, err = report.Get(client, &report.Request{InBlob: data[:], GetAuxBlob: s.Aux}); err != nil {
		return nil, s.otherProvider(client.explain(err))
	}
	if err := s.checkProvider(r.Provider); err != nil {
		return nil, err
	}
	return r, s.Check(r.OutBlob, data)
}

func (s *Source) checkProvider(name string) error {
	if got := strings.TrimSpace(name); got != s.Provider {
		return fmt.Errorf("the kernel attests by %q, not by %q: this is another kind of confidential VM", got, s.Provider)
	}
	return nil
}

// otherProvider says so if a request has failed since it was made to a provider of another kind, which has no certificates to give along.
func (s *Source) otherProvider(err error) error {
	if !s.Aux || transient(err) {
		return err
	}
	if name, fault := Provider(s.Client); fault == nil {
		if other := s.checkProvider(name); other != nil {
			return other
		}
	}
	return err
}

// Do has something done with the client, and gives its errors the kernel's cause.
func (s *Source) Do(do func(configfsi.Client) error) error {
	client := &tracing{Client: s.Client}
	if err := do(client); err != nil {
		return client.explain(err)
	}
	return nil
}
