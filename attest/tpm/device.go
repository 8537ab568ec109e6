package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Device is where Linux has the TPM of the machine, behind a manager that keeps its users apart.
const Device = "/dev/tpmrm0"

// ErrNoDevice says that there is no TPM where one was looked for.
var ErrNoDevice = errors.New("there is no TPM")

// ErrBusy says that a TPM had other things to do, and did not get done with them while it was asked again and again.
var ErrBusy = errors.New("the TPM is busy")

// opener opens a device. It is opened for each use: so what was loaded into it goes with whoever loaded it, and one that was away and
// is back needs no restart.
type opener func() (transport.TPMCloser, error)

// deviceAt opens the device or the socket of that path.
func deviceAt(path string) opener {
	return func() (transport.TPMCloser, error) {
		device, err := openDevice(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", ErrNoDevice, err)
		}
		if err != nil {
			return nil, fmt.Errorf("open the TPM: %w", err)
		}
		return device, nil
	}
}

// use opens the device for what is done with it. The device answers within seconds; one that does not is waited for no longer
// than ctx lasts, and closed when it has answered.
func use[T any](ctx context.Context, open opener, do func(transport.TPM) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.value, r.err = opened(ctx, open, do)
		done <- r
	}()
	select {
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	case r := <-done:
		return r.value, r.err
	}
}

func opened[T any](ctx context.Context, open opener, do func(transport.TPM) (T, error)) (value T, err error) {
	device, err := open()
	if err != nil {
		return value, err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	if value, err = do(&patient{ctx, device}); err != nil {
		err = fmt.Errorf("TPM: %w", err)
	}
	return value, err
}

// How often a TPM that is busy is asked again: 10 ms, 20 ms, and so on, in all ten seconds at most.
const (
	maxTries   = 10
	firstPause = 10 * time.Millisecond
)

// patient asks a TPM again that says it has other things to do. Such an answer means that nothing was done (part 2, 6.6.3).
type patient struct {
	ctx    context.Context
	device transport.TPM
}

// Send sends a command and returns its response.
func (p *patient) Send(command []byte) ([]byte, error) {
	for try := range maxTries {
		if err := p.ctx.Err(); err != nil {
			return nil, err // given up
		}
		response, err := p.device.Send(command)
		if err != nil {
			return nil, err
		}
		if err := complete(response); err != nil {
			return nil, err
		}
		if !busy(response) {
			return response, nil
		}
		select {
		case <-p.ctx.Done():
		case <-time.After(firstPause << try):
		}
	}
	return nil, ErrBusy
}

const headerSize = 2 + 4 + 4 // of a response: tag, size, code

// complete wants a response to have the size that it says.
func complete(response []byte) error {
	if len(response) < headerSize || int64(len(response)) != int64(binary.BigEndian.Uint32(response[2:])) {
		return fmt.Errorf("it gave a response of %d bytes, which is cut short", len(response))
	}
	return nil
}

func busy(response []byte) bool {
	switch tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])) {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting:
		return true
	}
	return false
}
