package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/show"
	"github.com/vouchmq/vouchmq/internal/server"
)

// bundleHint says where bundles come from.
const bundleHint = "ask the owner of the broker for a bundle; vouchmq serve writes one for a broker of your own"

// dialAttested connects to the broker of a bundle and verifies it. The connection is not returned unless the
// bundle's policy accepts the broker.
func (f *connectFlags) dialAttested(ctx context.Context, c *cobra.Command, log func(string)) (net.Conn, error) {
	if f.cafile != "" || f.osCerts || f.insecure {
		return nil, fmt.Errorf("--cafile, --insecure and --tls-use-os-certs do not go with --bundle, which says whom to trust")
	}
	bundle, err := client.ReadBundle(f.bundle)
	if err != nil {
		return nil, withHint(err, bundleHint)
	}
	options := client.Options{Address: f.bundleAddress(bundle)}
	if err := f.asking.apply(&options); err != nil {
		return nil, err
	}
	if f.attest != "" {
		if options.Attester, options.Identity, err = f.attester(); err != nil {
			return nil, err
		}
	}
	if log != nil {
		log("connecting to " + bundle.Service + ", and asking for evidence")
	}
	conn, verdict, err := client.Dial(ctx, bundle, options)
	if verdict != nil && f.verdict {
		s := show.Of(verdict)
		s.Service = bundle.Service
		s.Write(c.ErrOrStderr())
	}
	if err != nil {
		return nil, err
	}
	if !f.quiet && !f.noted { // also those who connect again and again are told once
		f.asking.noteUnused(c.ErrOrStderr(), conn.Peer().CertificateAsked)
		f.noted = true
	}
	return conn, nil
}

// bundleAddress is the address that -h and -p ask for instead of those of the bundle, "" for none.
func (f *connectFlags) bundleAddress(b *client.Bundle) string {
	if f.host == "" && f.port == 0 {
		return ""
	}
	host, port := "localhost", "8883"
	if len(b.Addresses) > 0 {
		host, port, _ = net.SplitHostPort(b.Addresses[0]) // its form was checked when it was read
	}
	if f.host != "" {
		host = f.host
	}
	if f.port != 0 {
		port = strconv.Itoa(f.port)
	}
	return net.JoinHostPort(host, port)
}

// attester is this program's own, for a broker that wants to know its clients. A program outside of a module claims
// the digest of its own executable.
func (f *connectFlags) attester() (attest.Attester, attest.Identity, error) {
	var identity attest.Identity
	pem, err := os.ReadFile(f.attest)
	if err != nil {
		return nil, identity, fmt.Errorf("--attest: %w", err)
	}
	key, err := sim.ParseKey(pem)
	if err != nil {
		return nil, identity, fmt.Errorf("--attest %s: %w", f.attest, err)
	}
	self, err := server.RuntimeDigest()
	if err != nil {
		return nil, identity, err
	}
	identity = attest.Identity{Module: self, Runtime: self, Instance: f.clientID()}
	return sim.NewAttester(key, self), identity, nil
}
