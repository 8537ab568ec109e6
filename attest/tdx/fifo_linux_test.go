package tdx

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	. "github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
)

// TestOneWrite: a FIFO keeps what is written apart.
func TestOneWrite(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "rtmr3:sha384")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Skip("no FIFOs here:", err)
	}
	read := make(chan []byte, 1)
	go func() {
		f, err := os.Open(fifo)
		if err != nil {
			read <- nil
			return
		}
		defer f.Close()
		b := make([]byte, 100)
		n, _ := f.Read(b) // one read gets what one write wrote
		read <- b[:n]
	}()
	module := attest.Sum([]byte("module"))
	if err := newAttester(newKernel(t, New(t)), nil).extend(fifo, module); err != nil {
		t.Fatal(err)
	}
	if got := <-read; !bytes.Equal(got, module[:]) {
		t.Errorf("%x", got)
	}
}
