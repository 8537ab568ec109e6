package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vouchmq/vouchmq/attest"
)

// device is a TPM that knows the few commands that an attester needs, and has the faults that devices have.
type device struct {
	t  *testing.T
	mu sync.Mutex

	key    *ecdsa.PrivateKey
	pcrs   [Registers][32]byte
	loaded int // keys
	opened int

	openError error
	sendError error
	busy      int    // how many times it says so
	code      uint32 // what it says in place of done, for commands of kind
	kind      tpm2.TPMCC
	short     int           // bytes that responses lack
	hold      chan struct{} // what it waits for before it answers
	onQuote   func()        // what happens after a quote
	fewer     bool          // reads fewer PCRs than it was asked for
}

func newDevice(t *testing.T) *device {
	return &device{t: t, key: keys()["P-256"].(*ecdsa.PrivateKey)}
}

func (d *device) open() (transport.TPMCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.openError != nil {
		return nil, d.openError
	}
	d.opened++
	return d, nil
}

func (d *device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened--
	return nil
}

func (d *device) Send(command []byte) ([]byte, error) {
	if d.hold != nil {
		<-d.hold
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sendError != nil {
		return nil, d.sendError
	}
	kind := tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
	if d.busy > 0 {
		d.busy--
		return respond(uint32(tpm2.TPMRCRetry), nil, false), nil
	}
	if d.code != 0 && kind == d.kind {
		return respond(d.code, nil, false), nil
	}
	response := d.serve(kind, command)
	return response[:max(0, len(response)-d.short)], nil
}

// respond frames a response (part 1, 18); those of commands with a password have a handle and its size before the parameters.
func respond(code uint32, parameters []byte, session bool, handles ...uint32) []byte {
	tag, body := uint16(tpm2.TPMSTNoSessions), []byte(nil)
	for _, h := range handles {
		body = append(body, be32(h)...)
	}
	if session {
		tag = uint16(tpm2.TPMSTSessions)
		body = append(body, be32(uint32(len(parameters)))...)
	}
	body = append(body, parameters...)
	if session {
		body = append(body, 0, 0, 1, 0, 0) // no nonce, the session goes on, no HMAC
	}
	return append(append(append(be16(tag), be32(uint32(headerSize+len(body)))...), be32(code)...), body...)
}

func (d *device) serve(kind tpm2.TPMCC, command []byte) []byte {
	switch kind {
	case tpm2.TPMCCCreatePrimary:
		d.loaded++
		f := good()
		public := f.public(d.t)
		parameters := appendSized(nil, public)
		parameters = appendSized(parameters, nil)
		parameters = append(appendSized(parameters, nil), be16(uint16(tpm2.TPMSTCreation))...)
		parameters = append(appendSized(append(parameters, be32(0x40000007)...), nil), []byte{}...)
		return respond(0, appendSized(parameters, name(public)), true, 0x80000000)
	case tpm2.TPMCCFlushContext:
		d.loaded--
		return respond(0, nil, false)
	case tpm2.TPMCCQuote:
		return d.quote(command)
	case tpm2.TPMCCPCRRead:
		return d.read(command)
	case tpm2.TPMCCPCREvent:
		r := &reader{rest: command[headerSize+4:]}
		r.take(int(r.u32())) // authorisation
		d.pcrs[ModulePCR] = [32]byte(extended(crypto.SHA256, d.pcrs[ModulePCR][:], moduleEvent(crypto.SHA256, r.sized())))
		return respond(0, be32(0), true)
	}
	d.t.Errorf("command %#x", kind)
	return respond(uint32(tpm2.TPMRCFailure), nil, false)
}

func (d *device) chosen(bitmap []byte) (values [][]byte) {
	for _, i := range chosen(bitmap) {
		values = append(values, slices.Clone(d.pcrs[i][:]))
	}
	return values
}

func (d *device) quote(command []byte) []byte {
	r := &reader{rest: command[headerSize+4:]}
	r.take(int(r.u32())) // authorisation
	f := good()
	f.extra = r.sized()
	r.take(2 + 4 + 2 + 1) // scheme, number of banks, bank, size
	f.bitmap = r.take(3)
	f.pcrs = d.chosen(f.bitmap)
	quote := f.quote()
	if d.onQuote != nil {
		d.onQuote()
	}
	digest := sha256.Sum256(quote)
	a, b, err := ecdsa.Sign(rand.Reader, d.key, digest[:])
	must(d.t, err)
	signature := append(be16(algECDSA), be16(algSHA256)...)
	signature = appendSized(appendSized(signature, a.Bytes()), b.Bytes())
	return respond(0, append(appendSized(nil, quote), signature...), true)
}

func (d *device) read(command []byte) []byte {
	selection := command[headerSize:]
	values := d.chosen(selection[len(selection)-3:])
	if d.fewer {
		values = values[1:]
	}
	parameters := append(be32(1), selection...)
	parameters = append(parameters, be32(uint32(len(values)))...)
	for _, v := range values {
		parameters = appendSized(parameters, v)
	}
	return respond(0, parameters, false)
}

func (d *device) attester(t *testing.T) *Attester {
	t.Helper()
	a, err := newAttester(t.Context(), Options{}, d.open)
	must(t, err)
	return a
}

// clean wants nothing to be left: neither a key in the TPM nor the device open.
func (d *device) clean(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.loaded != 0 || d.opened != 0 {
		t.Errorf("%d keys are loaded, and the device is open %d times", d.loaded, d.opened)
	}
}

func TestFakeDevice(t *testing.T) {
	d := newDevice(t)
	a := d.attester(t)
	module := attest.Sum([]byte("module"))
	must(t, a.Measure(t.Context(), module))
	must(t, a.Measure(t.Context(), module))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			q, err := a.Attest(t.Context(), attest.ReportData{1})
			if err != nil {
				t.Error(err)
				return
			}
			claims, err := verifyQuote(q, now)
			if err != nil || !slices.Equal(claims.Measurements["pcr14"], ModuleRegister(crypto.SHA256, module)) {
				t.Errorf("%v: %+v", err, claims)
			}
		})
	}
	all.Wait()
	d.clean(t)
}

func TestFaultyDevice(t *testing.T) {
	for name, test := range map[string]struct {
		break_ func(*device)
		want   string
	}{
		"gone":                {func(d *device) { d.sendError = syscall.ENODEV }, "no such device"},
		"cannot be opened":    {func(d *device) { d.openError = syscall.EBUSY }, "busy"},
		"short":               {func(d *device) { d.short = 3 }, "cut short"},
		"empty":               {func(d *device) { d.short = 1 << 20 }, "0 bytes, which is cut short"},
		"no room":             {func(d *device) { d.code, d.kind = uint32(tpm2.TPMRCObjectMemory), tpm2.TPMCCCreatePrimary }, "make the attestation key"},
		"refuses to quote":    {func(d *device) { d.code, d.kind = uint32(tpm2.TPMRCFailure), tpm2.TPMCCQuote }, "quote"},
		"PCRs that change":    {func(d *device) { d.onQuote = func() { d.pcrs[0][0]++ } }, "changed between quote and reading"},
		"fewer PCRs":          {func(d *device) { d.fewer = true }, "another bank is in use"},
		"refuses to read PCR": {func(d *device) { d.code, d.kind = uint32(tpm2.TPMRCFailure), tpm2.TPMCCPCRRead }, "read PCRs"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			a := d.attester(t)
			test.break_(d)
			if q, err := a.Attest(t.Context(), attest.ReportData{1}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%d bytes, %v, want %s", len(q.Data), err, test.want)
			}
			switch name {
			case "gone", "short", "empty", "cannot be opened":
			default:
				d.clean(t)
			}
		})
	}
}

// A TPM that never gets done is asked for ten seconds, and no longer.
func TestBusyDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		a := d.attester(t)
		d.busy = 1000
		start := time.Now()
		_, err := a.Attest(t.Context(), attest.ReportData{1})
		if took := time.Since(start); !errors.Is(err, ErrBusy) || took < 5*time.Second || took > 11*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
		d.clean(t)
	})
}

func TestPatience(t *testing.T) {
	d := newDevice(t)
	a := d.attester(t)
	d.busy = 4
	if _, err := a.Attest(t.Context(), attest.ReportData{1}); err != nil {
		t.Errorf("a TPM that was busy for a while: %v", err)
	}
	d.busy = 1000
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Attest(ctx, attest.ReportData{1}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSlowDeviceIsNotWaitedFor(t *testing.T) {
	d := newDevice(t)
	a := d.attester(t)
	d.hold = make(chan struct{})
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
	close(d.hold)
	if _, err := a.Attest(t.Context(), attest.ReportData{1}); err != nil { // after the one that was given up
		t.Error(err)
	}
}

func TestNoDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tpm")
	if _, err := NewAttester(t.Context(), Options{Device: path}); !errors.Is(err, ErrNoDevice) || !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	must(t, os.WriteFile(path, nil, 0o600))
	if _, err := NewAttester(t.Context(), Options{Device: path}); err == nil || errors.Is(err, ErrNoDevice) {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	d := newDevice(t)
	for name, o := range map[string]Options{
		"hash": {Hash: crypto.SHA1}, "PCR": {PCRs: []int{24}}, "negative": {PCRs: []int{-1}}, "certificates": {Certificates: []byte("x")},
	} {
		if _, err := newAttester(t.Context(), o, d.open); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	f := good()
	f.key = keys()["other"]
	if _, err := newAttester(t.Context(), Options{Certificates: f.certificates(t)}, d.open); err == nil || !strings.Contains(err.Error(), "enrol this machine") {
		t.Errorf("certificates of another key: %v", err)
	}
	if a, err := newAttester(t.Context(), Options{Certificates: good().certificates(t)}, d.open); err != nil || !a.Expiry().Equal(now.Add(24*time.Hour)) {
		t.Errorf("expires %v, %v", a.Expiry(), err)
	}
	if a, err := newAttester(t.Context(), Options{}, d.open); err != nil || !a.Expiry().IsZero() {
		t.Errorf("without certificates: expires %v, %v", a.Expiry(), err)
	}
	d.clean(t)
}

// A machine keeps its PCRs while its broker is started again, with the same module or another.
func TestMeasureAgain(t *testing.T) {
	zeros := make([]byte, 32)
	one, other := attest.Sum([]byte("module")), attest.Sum([]byte("another module"))
	with := func(before []byte, modules ...attest.Digest) []byte {
		for _, m := range modules {
			before = extended(crypto.SHA256, before, moduleEvent(crypto.SHA256, m[:]))
		}
		return before
	}
	shim := extended(crypto.SHA256, zeros, moduleEvent(crypto.SHA256, []byte("shim")))
	log := filepath.Join(t.TempDir(), "log")
	must(t, os.WriteFile(log, logOf(event{ModulePCR, 1, "shim"}), 0o600))
	for name, c := range map[string]struct {
		before []byte
		log    string
		after  []byte
		want   error
	}{
		"first start":                        {zeros, "", with(zeros, one), nil},
		"started again":                      {with(zeros, one), "", with(zeros, one), nil},
		"another module before":              {with(zeros, other), "", with(zeros, other, one), attest.ErrNotAlone},
		"boot loader":                        {shim, "", with(shim, one), attest.ErrNotAlone},
		"boot loader, log":                   {shim, log, with(shim, one), nil},
		"boot loader, log, again":            {with(shim, one), log, with(shim, one), nil},
		"boot loader, log, another module":   {with(shim, other), log, with(shim, other, one), attest.ErrNotAlone},
		"not what the log leads to, nothing": {zeros, log, with(zeros, one), attest.ErrNotAlone},
	} {
		d := newDevice(t)
		d.pcrs[ModulePCR] = [32]byte(c.before)
		a, err := newAttester(t.Context(), Options{EventLog: c.log}, d.open)
		must(t, err)
		err = a.Measure(t.Context(), one)
		if got := d.pcrs[ModulePCR]; !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || !slices.Equal(got[:], c.after) {
			t.Errorf("%s: PCR %d is %x, want %x; %v", name, ModulePCR, got, c.after, err)
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("held %x", c.before)) {
			t.Errorf("%s: it does not say what was there: %v", name, err)
		}
	}
}

func TestEventLogIsSent(t *testing.T) {
	d := newDevice(t)
	path := filepath.Join(t.TempDir(), "log")
	a, err := newAttester(t.Context(), Options{EventLog: path}, d.open)
	must(t, err)
	if _, err := a.Attest(t.Context(), attest.ReportData{1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a log: %v", err)
	}
	must(t, os.WriteFile(path, logOf(event{0, 1, "firmware"}), 0o600))
	d.pcrs[0] = [32]byte(extended(crypto.SHA256, make([]byte, 32), moduleEvent(crypto.SHA256, []byte("firmware"))))
	must(t, a.Measure(t.Context(), attest.Sum([]byte("module"))))
	q, err := a.Attest(t.Context(), attest.ReportData{1})
	must(t, err)
	if _, err := verifyQuote(q, now); err != nil {
		t.Error(err)
	}
	d.pcrs[0][0]++
	q, err = a.Attest(t.Context(), attest.ReportData{1})
	must(t, err)
	if _, err := verifyQuote(q, now); !errors.Is(err, attest.ErrSignature) {
		t.Error(err)
	}
	must(t, os.WriteFile(path, make([]byte, maxEventLogSize+1), 0o600))
	if _, err := a.Attest(t.Context(), attest.ReportData{1}); err == nil || !strings.Contains(err.Error(), "do without it") {
		t.Errorf("a long log: %v", err)
	}
}
