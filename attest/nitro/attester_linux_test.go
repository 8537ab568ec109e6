package nitro

import (
	"context"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/fxamacker/cbor/v2"
	"github.com/hf/nsm"

	"github.com/vouchmq/vouchmq/attest"
)

// device is the security module of an enclave of our own cloud, behind the same ioctl.
type device struct {
	t      *testing.T
	cloud  *cloud
	mu     sync.Mutex
	pcrs   map[uint16][]byte
	locked map[uint16]bool
	errno  syscall.Errno   // what the next ioctl fails with
	answer any             // what the device says in place of its own answer
	hold   <-chan struct{} // what it waits for before it answers
	closed bool
}

func newDevice(t *testing.T) *device {
	return &device{t: t, cloud: newCloud(t, elliptic.P384()), pcrs: map[uint16][]byte{}, locked: map[uint16]bool{}}
}

func (d *device) Fd() uintptr  { return 77 }
func (d *device) Close() error { d.closed = true; return nil }

func (d *device) options() nsm.Options {
	return nsm.Options{Open: func() (nsm.FileDescriptor, error) { return d, nil }, Syscall: d.ioctl}
}

// ioctlNSM is _IOWR(0x0A, 0, struct of two iovecs).
const ioctlNSM = 0xc0200a00

func (d *device) ioctl(trap, fd, command, argument uintptr) (r1, r2 uintptr, errno syscall.Errno) {
	if trap != syscall.SYS_IOCTL || fd != d.Fd() || command != ioctlNSM {
		d.t.Errorf("syscall %d on %d with %#x", trap, fd, command)
		return 0, 0, syscall.ENOTTY
	}
	if d.hold != nil {
		<-d.hold
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.errno != 0 {
		return 0, 0, d.errno
	}
	pair := *(**[2]syscall.Iovec)(unsafe.Pointer(&argument))
	response := d.serve(unsafe.Slice(pair[0].Base, pair[0].Len))
	copy(unsafe.Slice(pair[1].Base, pair[1].Len), response)
	pair[1].SetLen(len(response))
	return 0, 0, 0
}

func (d *device) serve(request []byte) []byte {
	var r struct {
		Attestation *struct {
			UserData []byte `cbor:"user_data"`
		}
		ExtendPCR *struct {
			Index uint16 `cbor:"index"`
			Data  []byte `cbor:"data"`
		}
		LockPCR *struct {
			Index uint16 `cbor:"index"`
		}
		DescribePCR *struct {
			Index uint16 `cbor:"index"`
		}
	}
	if err := cbor.Unmarshal(request, &r); err != nil {
		d.t.Errorf("request: %v", err)
	}
	var answer any
	switch {
	case d.answer != nil:
		answer = d.answer
	case r.Attestation != nil:
		answer = map[string]any{"Attestation": map[string]any{"document": d.document(r.Attestation.UserData)}}
	case r.ExtendPCR != nil && d.locked[r.ExtendPCR.Index]:
		answer = map[string]any{"Error": "ReadOnlyIndex"}
	case r.DescribePCR != nil:
		answer = map[string]any{"DescribePCR": map[string]any{"lock": d.locked[r.DescribePCR.Index], "data": d.pcr(r.DescribePCR.Index)}}
	case r.ExtendPCR != nil:
		sum := sha512.Sum384(append(d.pcr(r.ExtendPCR.Index), r.ExtendPCR.Data...))
		d.pcrs[r.ExtendPCR.Index] = sum[:]
		answer = map[string]any{"ExtendPCR": map[string]any{"data": sum[:]}}
	case r.LockPCR != nil:
		d.locked[r.LockPCR.Index] = true
		answer = "LockPCR"
	}
	data, err := cbor.Marshal(answer)
	if err != nil {
		d.t.Errorf("answer: %v", err)
	}
	return data
}

func (d *device) pcr(i uint16) []byte {
	if value := d.pcrs[i]; value != nil {
		return slices.Clone(value)
	}
	return make([]byte, 48)
}

// document has the PCRs below 16, and those above that are locked.
func (d *device) document(userData []byte) []byte {
	doc := d.cloud.document(userData)
	for i, v := range d.pcrs {
		if d.locked[i] {
			doc.PCRs[uint8(i)] = v
		}
	}
	return d.cloud.sign(d.t, doc)
}

func TestAttester(t *testing.T) {
	d := newDevice(t)
	a, err := open(d.options())
	if err != nil {
		t.Fatal(err)
	}
	module := attest.Sum([]byte("a module"))
	if err := a.Measure(t.Context(), module); err != nil {
		t.Fatal(err)
	}
	claims := &attest.Claims{}
	claims.Role, claims.Phase, claims.Service, claims.Module = attest.RoleServer, attest.PhaseConnect, "mqtt.example", module
	evidence, err := attest.Make(t.Context(), a, attest.PurposeConnection, claims, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := attest.DecodeEvidence(evidence)
	if err != nil {
		t.Fatal(err)
	}
	facts, err := attest.NewRegistry(d.cloud.verifier()).Verify(t.Context(), parsed, attest.PurposeConnection, claims.Binding, made.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	want := sha512.Sum384(append(make([]byte, 48), module[:]...))
	if !slices.Equal(facts.Measurements["pcr16"], want[:]) {
		t.Errorf("PCR16 is %x, want %x", facts.Measurements["pcr16"], want)
	}
	if err := a.Close(); err != nil || !d.closed {
		t.Error("the device was not closed", err)
	}
}

// An enclave keeps its PCRs while its broker is started again, with the same module or another.
func TestMeasureAgain(t *testing.T) {
	one, other := attest.Sum([]byte("a module")), attest.Sum([]byte("another module"))
	with := func(modules ...attest.Digest) []byte {
		value := make([]byte, 48)
		for _, m := range modules {
			sum := sha512.Sum384(append(value, m[:]...))
			value = sum[:]
		}
		return value
	}
	for name, c := range map[string]struct {
		before []byte
		locked bool
		after  []byte
		says   string // in the error, "" for none
		want   error
	}{
		"first start":                      {nil, false, with(one), "", nil},
		"started again":                    {with(one), true, with(one), "", nil},
		"started again, was not locked":    {with(one), false, with(one), "", nil},
		"another module before":            {with(other), true, with(other), "end the enclave", nil},
		"locked with nothing":              {make([]byte, 48), true, make([]byte, 48), "end the enclave", nil},
		"the image has measured something": {with(other), false, with(other, one), "PCR16 held", attest.ErrNotAlone},
	} {
		d := newDevice(t)
		d.pcrs[ModulePCR], d.locked[ModulePCR] = c.before, c.locked
		a, err := open(d.options())
		if err != nil {
			t.Fatal(err)
		}
		err = a.Measure(t.Context(), one)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) || errors.Is(err, attest.ErrNotAlone) != (c.want != nil) {
			t.Errorf("%s: %v", name, err)
		}
		if got := d.pcr(ModulePCR); !slices.Equal(got, c.after) || !d.locked[ModulePCR] {
			t.Errorf("%s: PCR16 is %x, locked %t", name, got, d.locked[ModulePCR])
		}
	}
	d := newDevice(t)
	d.answer = map[string]any{"DescribePCR": map[string]any{"lock": false, "data": []byte{1}}}
	a, err := open(d.options())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Measure(t.Context(), one); err == nil || !strings.Contains(err.Error(), "without its value") {
		t.Error(err)
	}
}

func TestFaultyDevice(t *testing.T) {
	for name, break_ := range map[string]func(*device){
		"busy":                func(d *device) { d.errno = syscall.EBUSY },
		"gone":                func(d *device) { d.errno = syscall.ENODEV },
		"says no":             func(d *device) { d.answer = map[string]any{"Error": "InternalError"} },
		"says something else": func(d *device) { d.answer = "LockPCR" },
		"no document":         func(d *device) { d.answer = map[string]any{"Attestation": map[string]any{}} },
		"garbage":             func(d *device) { d.answer = []int{1, 2} },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			break_(d)
			a, err := open(d.options())
			if err != nil {
				t.Fatal(err)
			}
			if q, err := a.Attest(t.Context(), attest.ReportData{1}); err == nil {
				t.Errorf("a quote of %d bytes", len(q.Data))
			}
		})
	}
}

func TestSlowDeviceIsNotWaitedFor(t *testing.T) {
	d := newDevice(t)
	hold := make(chan struct{})
	d.hold = hold
	a, err := open(d.options())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := a.Attest(ctx, attest.ReportData{1})
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(hold)
	if _, err := a.Attest(t.Context(), attest.ReportData{1}); err != nil { // after the request that was given up
		t.Error(err)
	}
}

func TestNoDevice(t *testing.T) {
	_, err := open(nsm.Options{Open: func() (nsm.FileDescriptor, error) {
		return nil, &fs.PathError{Op: "open", Path: Device, Err: syscall.ENOENT}
	}})
	if !errors.Is(err, ErrNoDevice) {
		t.Error(err)
	}
	_, err = open(nsm.Options{Open: func() (nsm.FileDescriptor, error) {
		return nil, &fs.PathError{Op: "open", Path: Device, Err: syscall.EACCES}
	}})
	if err == nil || errors.Is(err, ErrNoDevice) {
		t.Error(err)
	}
}
