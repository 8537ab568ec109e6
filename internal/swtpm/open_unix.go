//go:build !windows

package swtpm

import (
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// open opens the socket of a TPM in software.
func open(path string) (transport.TPMCloser, error) { return linuxudstpm.Open(path) }
