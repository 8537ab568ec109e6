package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vouchmq/vouchmq/bench"
)

// addVariantFlags adds the flags that say which brokers are measured.
func addVariantFlags(fs *pflag.FlagSet, variants, peers *[]string, peerCA *string) {
	fs.StringSliceVar(variants, "variant", nil, strings.Join(variantNames, ", "))
	fs.StringArrayVar(peers, "peer", nil, "another broker that runs already, NAME=HOST:PORT or NAME=tls://HOST:PORT; may be repeated")
	fs.StringVar(peerCA, "peer-cafile", "", "CA that such a broker's certificate is verified with (default: the system's)")
}

func checkVariants(names []string) error {
	for _, v := range names {
		if !slices.Contains(variantNames, v) {
			return fmt.Errorf("unknown variant %q: there are %s", v, strings.Join(variantNames, ", "))
		}
	}
	return nil
}

// withPeers starts what is needed for the variants of these names, or for the usual ones if there are none, and adds the peers.
// Mosquitto may be missing unless it is named. Peers must answer.
func (b *benchBrokers) withPeers(names, usual, peers []string, peerCA string) ([]bench.Variant, error) {
	others, err := b.answeringPeers(peers, peerCA)
	if err != nil {
		return nil, err
	}
	all, err := b.variantsOr(names, usual)
	return append(all, others...), err
}

// answeringPeers are the peers, each of which has answered a CONNECT: better now than after an hour of measurements.
func (b *benchBrokers) answeringPeers(peers []string, peerCA string) ([]bench.Variant, error) {
	others, err := peerVariants(peers, peerCA)
	if err != nil {
		return nil, err
	}
	for _, v := range others {
		if err := v.Answers(b.ctx); err != nil {
			return nil, withHint(fmt.Errorf("--peer %s: %w", v.Name, err), "a peer runs already, and lets in clients of MQTT 5 without user name and password")
		}
	}
	return others, nil
}

func peerVariants(peers []string, caFile string) (all []bench.Variant, err error) {
	var roots *x509.CertPool
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("--peer-cafile: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--peer-cafile: %s has no certificate in PEM", caFile)
		}
	}
	for _, peer := range peers {
		v, err := peerVariant(peer, roots)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func peerVariant(peer string, roots *x509.CertPool) (v bench.Variant, err error) {
	name, address, ok := strings.Cut(peer, "=")
	address, secure := strings.CutPrefix(address, "tls://")
	host, _, err := net.SplitHostPort(address)
	if !ok || name == "" || err != nil || host == "" {
		return v, fmt.Errorf("--peer %q: it is NAME=HOST:PORT, or NAME=tls://HOST:PORT", peer)
	}
	if secure {
		return bench.Variant{Name: name, Dial: bench.DialTLS(address, &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12})}, nil
	}
	return bench.Variant{Name: name, Dial: bench.DialTCP(address)}, nil
}
