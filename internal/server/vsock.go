package server

import (
	"fmt"
	"net"
	"strconv"

	"github.com/mdlayher/vsock"
)

// anyCID is the context id that stands for each that this machine has (VMADDR_CID_ANY).
const anyCID = 1<<32 - 1

// openVsock opens a port for the host of this virtual machine or enclave (AF_VSOCK), which no network reaches.
func openVsock(port string) (net.Listener, error) {
	n, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("vsock:%s: %q is not the number of a port", port, port)
	}
	socket, err := vsock.ListenContextID(anyCID, uint32(n), nil)
	if err != nil {
		return nil, fmt.Errorf("vsock is for virtual machines and enclaves on Linux: %w", err)
	}
	return socket, nil
}
