package sevsnp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/tsm"
	"github.com/vouchmq/vouchmq/attest/internal/tsm/tsmtest"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

// tableOf makes the host's table.
func tableOf(entries map[guid][]byte) []byte {
	at := (len(entries) + 1) * entrySize
	head, body := []byte{}, []byte{}
	for g, c := range entries {
		head = binary.LittleEndian.AppendUint32(append(head, g[:]...), uint32(at+len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(c)))
		body = append(body, c...)
	}
	return slices.Concat(head, make([]byte, entrySize), body)
}

func TestAttester(t *testing.T) {
	m, key := newAMD(), must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	old := milan()
	old.Parts["bootloader"] = 3
	good, data := must(m.Certificate(milan(), key)), attest.ReportData{1, 63: 2}
	file := filepath.Join(t.TempDir(), "vcek.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good}), 0o600); err != nil {
		t.Fatal(err)
	}
	var once atomic.Bool
	for name, test := range map[string]struct {
		guest  guest
		file   string
		change func(map[string]tsmtest.Answer)
		want   error
		says   string
	}{
		"VCEK of the host": {guest: milan()},
		"VLEK of the host": {guest: m.provided(), change: func(a map[string]tsmtest.Answer) {
			a["auxblob"] = tsmtest.Fixed(tableOf(map[guid][]byte{guidOf(vlek): must(m.Certificate(m.provided(), key)), guidOf(vcek): good}))
		}},
		"VCEK of a file": {guest: milan(), file: file, change: func(a map[string]tsmtest.Answer) { a["auxblob"] = tsmtest.Fixed(nil) }},
		"no certificate": {guest: milan(), change: func(a map[string]tsmtest.Answer) { a["auxblob"] = tsmtest.Fixed(nil) }, says: "fetch it from AMD"},
		"certificate of older firmware": {guest: milan(), change: func(a map[string]tsmtest.Answer) {
			a["auxblob"] = tsmtest.Fixed(tableOf(map[guid][]byte{guidOf(vcek): must(m.Certificate(old, key))}))
		}, says: "certificate is for version 3 of bootloader"},
		"table cut short":  {guest: milan(), change: func(a map[string]tsmtest.Answer) { a["auxblob"] = tsmtest.Fixed([]byte{1}) }, says: "cut short"},
		"report cut short": {guest: milan(), change: func(a map[string]tsmtest.Answer) { a["outblob"] = tsmtest.Fixed(make([]byte, 100)) }, says: "100 bytes"},
		"another's report": {guest: milan(), change: func(a map[string]tsmtest.Answer) {
			g := milan()
			g.Data = make([]byte, 64)
			a["outblob"] = tsmtest.Fixed(must(g.Report(key)))
		}, want: tsm.ErrInterfered},
		"busy once": {guest: milan(), change: func(a map[string]tsmtest.Answer) {
			plain := a["auxblob"]
			a["auxblob"] = func(in []byte) ([]byte, error) {
				if once.CompareAndSwap(false, true) {
					return nil, syscall.EBUSY
				}
				return plain(in)
			}
		}},
		"always busy": {guest: milan(), change: func(a map[string]tsmtest.Answer) {
			a["outblob"] = tsmtest.Failing(syscall.EBUSY)
		}, want: syscall.EBUSY, says: "4 attempts"},
		"device gone": {guest: milan(), change: func(a map[string]tsmtest.Answer) {
			a["outblob"] = tsmtest.Failing(syscall.ENXIO)
		}, want: syscall.ENXIO},
		"a TD": {guest: milan(), change: func(a map[string]tsmtest.Answer) {
			a["provider"] = tsmtest.Fixed([]byte("tdx_guest\n"))
			a["auxblob"] = tsmtest.Failing(syscall.ENOENT)
		}, says: "another kind of confidential VM"},
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string]tsmtest.Answer{
				"provider": tsmtest.Fixed([]byte("sev_guest\n")), "auxblob": tsmtest.Fixed(tableOf(map[guid][]byte{guidOf(vcek): good})),
				"outblob": func(in []byte) ([]byte, error) { g := test.guest; g.Data = in; return g.Report(key) },
			}
			if test.change != nil {
				test.change(answers)
			}
			k := tsmtest.New(answers)
			a := must(newAttester(k, test.file))
			q, err := a.Attest(t.Context(), data)
			if len(k.Reports.Entries) != 0 {
				t.Errorf("%d entries are left behind", len(k.Reports.Entries))
			}
			if test.want != nil || test.says != "" {
				if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%v, want %v %s", err, test.want, test.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c, err := judge(m.verifier(), q, made); err != nil || !bytes.Equal(c.ReportData, data[:]) || a.Platform() != attest.SEVSNP {
				t.Error(c, err)
			}
		})
	}
}

// TestGenerationChanged: somebody else writes to the same entry between our write and read.
func TestGenerationChanged(t *testing.T) {
	var k *tsmtest.Kernel
	k = tsmtest.New(map[string]tsmtest.Answer{"auxblob": func([]byte) ([]byte, error) {
		for _, e := range k.Reports.Entries {
			e.WriteGeneration++
		}
		return nil, nil
	}})
	if _, err := must(newAttester(k, "")).Attest(t.Context(), attest.ReportData{1}); err == nil || !strings.Contains(err.Error(), "generation") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := must(newAttester(k, "")).Attest(ctx, attest.ReportData{1}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestCertificateFile(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{bad, bad + "-not-there"} {
		if _, err := newAttester(tsmtest.New(nil), file); !errors.Is(err, attest.ErrAttester) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := os.Stat("/sys/kernel/config/tsm"); err != nil {
		if _, err := NewAttester(""); !errors.Is(err, attest.ErrAttester) {
			t.Error(err)
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add(tableOf(map[guid][]byte{guidOf(vcek): []byte("certificate"), guidOf(vlek): nil}))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, b []byte) {
		table, err := parseTable(b)
		if err == nil && len(table) > maxEntries {
			t.Error(len(table))
		}
	}))
}
