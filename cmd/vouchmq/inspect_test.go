package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestInspectInterrupted: who does not wait for an answer is told no verdict.
func TestInspectInterrupted(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	bundle := filepath.Join(t.TempDir(), "b")
	if err := os.WriteFile(bundle, bundleOf(t, newOwner(t), "plant.example", 1), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		conn, err := silent.Accept()
		cancel(interrupted{syscall.SIGINT})
		if err == nil {
			defer conn.Close()
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			_, _ = conn.Read(make([]byte, 1<<16))
			_, _ = conn.Read(make([]byte, 1))
		}
	}()
	var out, log bytes.Buffer
	root := newRoot()
	root.SetArgs([]string{"inspect", "--bundle", bundle, silent.Addr().String()})
	root.SetOut(&out)
	root.SetErr(&log)
	command, err := root.ExecuteContextC(ctx)
	if status := report(command, err); status != exitGeneral || out.Len() != 0 || log.String() != "interrupted\n" {
		t.Errorf("status %d, %q, %q", status, &out, &log)
	}
}
