package tdx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/fakertmr"
	"github.com/google/go-configfs-tsm/configfs/faketsm"
	"github.com/google/go-configfs-tsm/rtmr"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	. "github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
)

// kernel is a fake of configfs-tsm whose quotes a World makes.
type kernel struct {
	configfsi.Client
	reports *faketsm.ReportSubsystem
	// before runs before each operation on an attribute; its error is what the kernel gives.
	before func(operation, attribute string) error
	rtmr3  func() attest.Digest // that quotes show; nil: zeros
}

func newKernel(t *testing.T, w *World) *kernel {
	t.Helper()
	k, reports := &kernel{}, faketsm.ReportV7(0)
	plain := reports.ReadAttr
	reports.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
		switch attr {
		case "outblob":
			return w.Quote(Quote{Version: 4, ReportData: [64]byte(e.InAttrs["inblob"].Value), Body: k.body}), nil
		case "provider":
			return []byte("tdx_guest\n"), nil
		}
		return plain(e, attr)
	}
	k.reports, k.Client = reports, &faketsm.Client{Subsystems: map[string]configfsi.Client{
		"report": reports, "rtmrs": fakertmr.CreateRtmrSubsystem(t.TempDir()),
	}}
	return k
}

// body puts RTMR3 into the body of a quote.
func (k *kernel) body(b []byte) {
	if k.rtmr3 != nil {
		register := k.rtmr3()
		copy(b[TDRTMR3:], register[:])
	}
}

func (k *kernel) ReadFile(name string) ([]byte, error) {
	if err := k.ask("read", name); err != nil {
		return nil, err
	}
	return k.Client.ReadFile(name)
}

func (k *kernel) WriteFile(name string, contents []byte) error {
	if err := k.ask("write", name); err != nil {
		return err
	}
	return k.Client.WriteFile(name, contents)
}

func (k *kernel) MkdirTemp(dir, pattern string) (string, error) {
	if err := k.ask("make", dir); err != nil {
		return "", err
	}
	return k.Client.MkdirTemp(dir, pattern)
}

func (k *kernel) ask(operation, name string) error {
	if k.before == nil {
		return nil
	}
	return k.before(operation, filepath.Base(name))
}

var data = attest.ReportData{1, 2, 3, 63: 4}

func TestAttest(t *testing.T) {
	w := New(t)
	k := newKernel(t, w)
	a := newAttester(k, nil)
	q, err := a.Attest(context.Background(), data)
	if err != nil || q.Platform != attest.TDX || a.Platform() != attest.TDX {
		t.Fatal(err)
	}
	q.Endorsements = w.Endorsements(Collateral{})
	v := &Verifier{TEE: dcap.TDX, Root: w.Trust()}
	claims, err := v.Verify(context.Background(), q, data, Now)
	if err != nil || !bytes.Equal(claims.ReportData, data[:]) || claims.Platform != attest.TDX {
		t.Error(claims, err)
	}
	if len(k.reports.Entries) != 0 {
		t.Errorf("%d entries are left behind", len(k.reports.Entries))
	}
}

func TestAttestTogether(t *testing.T) {
	k := newKernel(t, New(t))
	a := newAttester(k, nil)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, err := a.Attest(context.Background(), attest.ReportData{byte(i), 1}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// times gives an error for one operation on one attribute, the first times only.
func times(n int32, operation, attribute string, err error) func(string, string) error {
	var count atomic.Int32
	return func(o, a string) error {
		if o == operation && a == attribute && count.Add(1) <= n {
			return err
		}
		return nil
	}
}

func TestKernelFails(t *testing.T) {
	w := New(t)
	answer := func(f func() []byte) func(*kernel) {
		return func(k *kernel) {
			plain := k.reports.ReadAttr
			k.reports.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
				if attr == "outblob" {
					return f(), nil
				}
				return plain(e, attr)
			}
		}
	}
	before := func(f func(string, string) error) func(*kernel) { return func(k *kernel) { k.before = f } }
	for name, c := range map[string]struct {
		change func(*kernel)
		want   error
		says   string
	}{
		"busy once":          {before(times(1, "write", "inblob", syscall.EBUSY)), nil, ""},
		"interrupted twice":  {before(times(2, "read", "outblob", syscall.EINTR)), nil, ""},
		"always busy":        {before(times(99, "read", "outblob", syscall.EBUSY)), syscall.EBUSY, "4 attempts"},
		"device gone":        {before(times(99, "make", "report", os.ErrNotExist)), os.ErrNotExist, "entry"},
		"gone while reading": {before(times(99, "read", "outblob", syscall.ENXIO)), syscall.ENXIO, "outblob"},
		"not root":           {before(times(99, "make", "report", os.ErrPermission)), os.ErrPermission, "root"},
		"quote cut short":    {answer(func() []byte { return w.Quote(Quote{Version: 4})[:600] }), dcap.FaultFormat, "ends within"},
		"no quote":           {answer(func() []byte { return []byte{} }), dcap.FaultFormat, "ends within"},
		"another's quote":    {answer(func() []byte { return w.Quote(Quote{Version: 4}) }), errInterfered, "other report data"},
	} {
		k := newKernel(t, w)
		c.change(k)
		_, err := newAttester(k, nil).Attest(context.Background(), data)
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if len(k.reports.Entries) != 0 {
			t.Errorf("%s: %d entries are left behind", name, len(k.reports.Entries))
		}
	}
}

// TestGenerationChanged: somebody else writes to the same entry between our write and read.
func TestGenerationChanged(t *testing.T) {
	for attempt, want := range map[int32]string{1: "", 99: "generation"} {
		k := newKernel(t, New(t))
		var count atomic.Int32
		k.before = func(operation, attribute string) error {
			if operation == "read" && attribute == "outblob" && count.Add(1) <= attempt {
				for name := range k.reports.Entries {
					return k.Client.WriteFile("/sys/kernel/config/tsm/report/"+name+"/inblob", make([]byte, 64))
				}
			}
			return nil
		}
		_, err := newAttester(k, nil).Attest(context.Background(), data)
		if got := fmt.Sprint(err); (err == nil) != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%d times: %v", attempt, err)
		}
	}
}

func TestWrongPlatform(t *testing.T) {
	k := newKernel(t, New(t))
	plain := k.reports.ReadAttr
	k.reports.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
		if attr == "provider" {
			return []byte("sev_guest\n"), nil
		}
		return plain(e, attr)
	}
	if _, err := newAttester(k, nil).Attest(context.Background(), data); err == nil || !strings.Contains(err.Error(), "sev_guest") {
		t.Error(err)
	}
	if _, err := os.Stat("/sys/kernel/config/tsm"); err != nil {
		if _, err := NewAttester(nil); !errors.Is(err, attest.ErrAttester) {
			t.Error(err)
		}
	}
}

func TestContext(t *testing.T) {
	k := newKernel(t, New(t))
	release := make(chan struct{})
	defer close(release)
	k.before = func(operation, _ string) error {
		if operation == "write" {
			<-release
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := newAttester(k, nil).Attest(ctx, data); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := newAttester(k, nil).Attest(ctx, data); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestMeasure: a TD keeps RTMR3 while its broker is started again, with the same module or another.
func TestMeasure(t *testing.T) {
	one, other := attest.Sum([]byte("module")), attest.Sum([]byte("another module"))
	for name, c := range map[string]struct {
		before []attest.Digest // that were extended into it
		after  attest.Digest
		want   error
	}{
		"first start":           {nil, ExtendedOnce(one), nil},
		"started again":         {[]attest.Digest{one}, ExtendedOnce(one), nil},
		"another module before": {[]attest.Digest{other}, extended(ExtendedOnce(other), one), attest.ErrNotAlone},
		"this and another":      {[]attest.Digest{one, other}, extended(extended(ExtendedOnce(one), other), one), attest.ErrNotAlone},
	} {
		k := newKernel(t, New(t))
		a := newAttester(k, nil)
		k.rtmr3 = func() attest.Digest {
			r, err := rtmr.GetDigest(k.Client, 3)
			if err != nil {
				t.Error(err)
				return attest.Digest{}
			}
			return attest.Digest(r.Digest)
		}
		nowhere := filepath.Join(t.TempDir(), "rtmr3")
		for _, m := range c.before {
			if err := a.extend(nowhere, m); err != nil {
				t.Fatal(err)
			}
		}
		held := k.rtmr3()
		err := a.measure(t.Context(), nowhere, one)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || k.rtmr3() != c.after {
			t.Errorf("%s: RTMR3 is %v, want %v; %v", name, k.rtmr3(), c.after, err)
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("held %x", held[:])) {
			t.Errorf("%s: it does not say what was there: %v", name, err)
		}
	}
}

func TestMeasureFails(t *testing.T) {
	module := attest.Sum([]byte("module"))
	k := newKernel(t, New(t))
	a := newAttester(k, nil)
	if err := a.measure(t.Context(), t.TempDir()+"/rtmr3", module); !errors.Is(err, attest.ErrAttester) || !strings.Contains(err.Error(), "after it was extended") {
		t.Errorf("a register that does not change: %v", err)
	}
	k.before = times(99, "read", "outblob", syscall.ENXIO)
	if err := a.Measure(t.Context(), module); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("no quote to read it from: %v", err)
	}
}

// TestExtend: 48 bytes in one write, to the kernel's file or, with older kernels, to configfs.
func TestExtend(t *testing.T) {
	k := newKernel(t, New(t))
	a := newAttester(k, nil)
	module := attest.Sum([]byte("module"))
	file := filepath.Join(t.TempDir(), "rtmr3:sha384")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.extend(file, module); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, module[:]) {
		t.Errorf("%x, %v", got, err)
	}
	writes := 0
	k.before = func(operation, attribute string) error {
		if operation == "write" && attribute == "digest" {
			writes++
		}
		return nil
	}
	if err := a.extend(file+"-not-there", module); err != nil || writes != 1 {
		t.Errorf("%d writes, %v", writes, err)
	}
	k.before = func(operation, attribute string) error {
		if attribute == "digest" {
			return syscall.EBUSY
		}
		return nil
	}
	if err := a.extend(file+"-not-there", module); !errors.Is(err, syscall.EBUSY) || !errors.Is(err, attest.ErrAttester) {
		t.Error(err)
	}
	if err := a.extend(t.TempDir(), module); !errors.Is(err, attest.ErrAttester) {
		t.Error(err)
	}
	once := ExtendedOnce(module)
	if want := attest.Sum(append(make([]byte, 48), module[:]...)); once != want {
		t.Error(once)
	}
}
