package cca

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/tsm"
	"github.com/vouchmq/vouchmq/attest/internal/tsm/tsmtest"
)

// newKernel is a fake of configfs-tsm in a realm.
func newKernel(provider string, token tsmtest.Answer) *tsmtest.Kernel {
	return tsmtest.New(map[string]tsmtest.Answer{
		"outblob": token, "provider": tsmtest.Fixed([]byte(provider + "\n")), "auxblob": tsmtest.Failing(syscall.ENOENT),
	})
}

func TestAttester(t *testing.T) {
	m, data := newMachine(t), attest.ReportData{1, 63: 2}
	der, text := filepath.Join(t.TempDir(), "cpak.der"), filepath.Join(t.TempDir(), "cpak.pem")
	for file, content := range map[string][]byte{der: m.endorsement(), text: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: m.endorsement()})} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	token := func(in []byte) ([]byte, error) { return m.quote(in, nil).Data, nil }
	for _, file := range []string{der, text} {
		a, err := newAttester(newKernel("arm_cca_guest", token), file)
		if err != nil || a.Platform() != attest.CCA {
			t.Fatal(err)
		}
		q, err := a.Attest(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := verify(q); err != nil || !bytes.Equal(c.ReportData, data[:]) {
			t.Error(c, err)
		}
	}
	for name, test := range map[string]struct {
		provider string
		token    tsmtest.Answer
		want     error
		says     string
	}{
		"busy":            {"arm_cca_guest", tsmtest.Failing(syscall.EBUSY), syscall.EBUSY, "4 attempts"},
		"device gone":     {"arm_cca_guest", tsmtest.Failing(syscall.ENXIO), syscall.ENXIO, ""},
		"cut short":       {"arm_cca_guest", func(in []byte) ([]byte, error) { b, _ := token(in); return b[:200], nil }, nil, "the kernel's token"},
		"another's token": {"arm_cca_guest", func([]byte) ([]byte, error) { return token(make([]byte, 64)) }, tsm.ErrInterfered, ""},
	} {
		a, err := newAttester(newKernel(test.provider, test.token), der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Attest(t.Context(), data); err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(der, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{der, der + "-not-there", ""} {
		if _, err := newAttester(newKernel(provider, token), file); !errors.Is(err, attest.ErrAttester) || errors.Is(err, ErrNoRealm) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Where there is no realm, the kernel or its lack is why; a broker that looks for a TEE looks elsewhere then.
func TestNoRealm(t *testing.T) {
	for name, c := range map[string]struct {
		answer tsmtest.Answer
		realm  bool
		says   string
	}{
		"another VM":  {tsmtest.Fixed([]byte("sev_guest\n")), false, `attests by "sev_guest"`},
		"no provider": {tsmtest.Failing(syscall.ENXIO), false, "no such device"},
		"not root":    {tsmtest.Failing(syscall.EACCES), true, "takes root"},
		"a realm":     {tsmtest.Fixed([]byte(provider + "\n")), true, "no file with it is named"},
	} {
		k := tsmtest.New(map[string]tsmtest.Answer{"provider": c.answer})
		_, err := newAttester(k, "")
		if errors.Is(err, ErrNoRealm) == c.realm || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if len(k.Reports.Entries) != 0 {
			t.Errorf("%s: %d entries are left behind", name, len(k.Reports.Entries))
		}
	}
	if _, err := os.Stat("/sys/kernel/config/tsm"); err != nil {
		if _, err := NewAttester(""); !errors.Is(err, ErrNoRealm) {
			t.Error(err)
		}
	}
}
