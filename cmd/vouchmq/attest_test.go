package main

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/attest/tpm/tpmtest"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/servertest"
)

// sensor is the identity of a machine whose TPM has measured this program and no other.
func sensor(t *testing.T, m *tpmtest.Machine, program attest.Digest) policy.Identity {
	t.Helper()
	request, err := tpm.NewRequest(t.Context(), m.Socket)
	if err != nil {
		t.Fatal(err)
	}
	ak := tpm.KeyDigest(request.AK)
	return policy.Identity{Name: "sensor", Modules: []attest.Digest{program}, AnyOf: []policy.Requirement{{
		Platform: attest.TPM, Want: map[string][]string{
			"ak": {hex.EncodeToString(ak[:])}, "pcrs": {fmt.Sprintf("%d=%x", tpm.ModulePCR, tpm.ModuleRegister(crypto.SHA256, program))},
		},
	}}}
}

// startFor starts a broker that lets in one identity alone, and returns the path of its bundle.
func startFor(t *testing.T, id policy.Identity) string {
	t.Helper()
	p, err := policy.New([]policy.Identity{id}, []policy.Rule{{Who: []policy.Who{{Identity: id.Name}}, Publish: []string{"#"}}})
	if err != nil {
		t.Fatal(err)
	}
	b := servertest.Start(t, server.DevelopmentOptions{Plain: "-"}, func(c *server.Config, _ *server.State) {
		c.Policy, c.Listeners[0].RequireEvidence = p, true
	})
	return servertest.BundleFile(t, b.State, b.Server)
}

// runPub publishes one message at QoS 1, and returns what pub says.
func runPub(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := newPub()
	c.SetArgs(append([]string{"-t", "t", "-m", "x", "-q", "1", "-V", "mqttv5"}, args...))
	c.SetOut(io.Discard)
	c.SetErr(&out)
	c.SilenceErrors, c.SilenceUsage = true, true
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

// TestClientAttestedByTPM: a broker lets in a client whose TPM has measured its program, and nobody else.
func TestClientAttestedByTPM(t *testing.T) {
	m := tpmtest.New(t)
	program, err := server.RuntimeDigest()
	if err != nil {
		t.Fatal(err)
	}
	bundle := startFor(t, sensor(t, m, program))
	for name, args := range map[string][]string{
		"no evidence":  {},
		"not measured": {"--attest", "tpm:device=" + m.Socket},
	} {
		if _, err := runPub(t, append(args, "--bundle", bundle)...); !errors.Is(err, pubsub.ErrNoConnack) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, kind := range []string{"tpm", "tpm"} { // started again, it is as before
		said, err := runPub(t, "--bundle", bundle, "-d", "--attest", kind+":device="+m.Socket, "--attest-measure")
		if err != nil || !strings.Contains(said, "TEE found platform=tpm") || !strings.Contains(said, "module measured") {
			t.Errorf("%v\n%s", err, said)
		}
	}
}
