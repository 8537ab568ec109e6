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
		"another VM":      {"sev_guest", token, nil, "another kind of confidential VM"},
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
		if _, err := newAttester(nil, file); !errors.Is(err, attest.ErrAttester) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
