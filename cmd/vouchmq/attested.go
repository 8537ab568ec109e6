package main

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/show"
)

// openAttested connects to the broker of a bundle, which is verified each time. A command that lasts goes by the bundle as it is in the
// file.
func (f *connectFlags) openAttested(ctx context.Context, c *cobra.Command, o pubsub.Options) (pubsub.Client, error) {
	b, err := f.attestedBroker(ctx, o)
	if err != nil {
		return nil, err
	}
	link := pubsub.Link{
		Dial:      func(ctx context.Context) (net.Conn, error) { return f.dialAttested(ctx, c, b, o) },
		Reconnect: f.lasts && !f.noReconnect,
	}
	if f.attest.wanted() {
		link.Every = f.renewEvery
	}
	if f.lasts {
		renewed := make(chan struct{}, 1)
		link.Renewed, link.Reappraise = renewed, b.reappraise
		go b.watch(ctx, renewed, o.Notice)
	}
	return pubsub.Last(ctx, link, o)
}

// attestedBroker is the broker that the flags name by its bundle.
func (f *connectFlags) attestedBroker(ctx context.Context, o pubsub.Options) (*attestedBroker, error) {
	if f.cafile != "" || f.osCerts || f.insecure {
		return nil, fmt.Errorf("--cafile, --insecure and --tls-use-os-certs do not go with --bundle, which says whom to trust")
	}
	b, err := openAttestedBroker(f.bundle)
	if err != nil {
		return nil, err
	}
	if err := f.asking.apply(&b.options); err != nil {
		return nil, err
	}
	if err := f.attest.apply(ctx, &b.options, f.clientID(), f.asking.collateral, noticing(o)); err != nil {
		return nil, err
	}
	return b, nil
}

// dialAttested connects to a broker and verifies it. The connection is not returned unless the bundle's policy accepts
// the broker.
func (f *connectFlags) dialAttested(ctx context.Context, c *cobra.Command, b *attestedBroker, o pubsub.Options) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	b.refresh(o.Notice)
	bundle, options := b.bundle.Load(), b.options
	options.Address = f.bundleAddress(bundle)
	if o.Log != nil {
		o.Log("connecting to " + bundle.Service + ", and asking for evidence")
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
