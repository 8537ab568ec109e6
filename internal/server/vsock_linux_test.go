package server_test

import (
	"context"
	"strings"
	"testing"

	"github.com/mdlayher/vsock"

	"github.com/vouchmq/vouchmq/internal/server"
)

// localCID is the context id of the machine itself (VMADDR_CID_LOCAL), for which it needs the kernel's module vsock_loopback.
const localCID = 1

// startVsock starts a broker whose plain listener is a port of AF_VSOCK.
func startVsock(t *testing.T, address string, insecure bool) (*server.Server, error) {
	t.Helper()
	config, _, err := server.Development(server.DevelopmentOptions{Dir: t.TempDir(), Attested: "127.0.0.1:0", Engine: server.Native})
	if err != nil {
		t.Fatal(err)
	}
	config.Listeners[0].Address, config.Listeners[0].Insecure = address, insecure
	s, err := server.Start(context.Background(), config)
	if err == nil {
		t.Cleanup(func() {
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	return s, err
}

func TestVsockIsBeyondThisMachine(t *testing.T) {
	if _, err := startVsock(t, "vsock:0", false); err == nil || !strings.Contains(err.Error(), "can be reached from other machines") {
		t.Error("a plain listener for the host:", err)
	}
	if _, err := startVsock(t, "vsock:x", true); err == nil || !strings.Contains(err.Error(), "not the number of a port") {
		t.Error(err)
	}
}

func TestVsock(t *testing.T) {
	s, err := startVsock(t, "vsock:0", true)
	if err != nil {
		t.Skip("this kernel has no AF_VSOCK: ", err)
	}
	address, ok := s.Addr(server.PlainListener).(*vsock.Addr)
	if !ok || address.Port == 0 {
		t.Fatal(s.Addr(server.PlainListener))
	}
	conn, err := vsock.Dial(localCID, address.Port, nil)
	if err != nil {
		t.Skip("this kernel cannot reach itself by AF_VSOCK (modprobe vsock_loopback): ", err)
	}
	defer conn.Close()
	hello(t, conn, "through vsock")
}
