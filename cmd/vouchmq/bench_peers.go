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
	addPeerFlags(fs, peers, peerCA)
}

func addPeerFlags(fs *pflag.FlagSet, peers *[]string, peerCA *string) {
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
	others, err := namedPeers(peers, peerCA)
	if err != nil {
		return nil, err
	}
	return b.answering(others)
}

// answering are peers as variants, each of which has answered.
func (b *benchBrokers) answering(peers []benchPeer) (all []bench.Variant, err error) {
	for _, p := range peers {
		v := bench.Variant{Name: p.name, Dial: p.over(nil)}
		if err := v.Answers(b.ctx); err != nil {
			return nil, withHint(fmt.Errorf("--peer %s: %w", v.Name, err), "a peer runs already, and lets in clients of MQTT 5 without user name and password")
		}
		all = append(all, v)
	}
	return all, nil
}

// benchPeer is another broker that runs already.
type benchPeer struct {
	name, address string
	tls           *tls.Config // nil if it is reached over plain TCP
}

// over dials the peer over a network, nil for the usual one.
func (p benchPeer) over(net bench.NetDial) bench.Dialer {
	if p.tls == nil {
		return net.TCP(p.address)
	}
	return net.TLS(p.address, p.tls)
}

// namedPeers are those of --peer. They have names of their own.
func namedPeers(peers []string, caFile string) (all []benchPeer, err error) {
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
		p, err := parsePeer(peer, roots)
		if err != nil {
			return nil, err
		}
		if peerNamed(all, p.name) != nil || slices.Contains(takenNames, p.name) {
			return nil, fmt.Errorf("--peer %s: another variant has that name", p.name)
		}
		all = append(all, p)
	}
	return all, nil
}

// takenNames are those that peers cannot have, for results are told apart by them.
var takenNames = slices.Concat(variantNames, bench.ConnectWays)

// peerNamed is the peer of that name, nil if there is none.
func peerNamed(peers []benchPeer, name string) *benchPeer {
	i := slices.IndexFunc(peers, func(p benchPeer) bool { return p.name == name })
	if i < 0 {
		return nil
	}
	return &peers[i]
}

func parsePeer(peer string, roots *x509.CertPool) (p benchPeer, err error) {
	name, address, ok := strings.Cut(peer, "=")
	address, secure := strings.CutPrefix(address, "tls://")
	host, _, err := net.SplitHostPort(address)
	if !ok || name == "" || err != nil || host == "" {
		return p, fmt.Errorf("--peer %q: it is NAME=HOST:PORT, or NAME=tls://HOST:PORT", peer)
	}
	p = benchPeer{name: name, address: address}
	if secure {
		p.tls = &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12}
	}
	return p, nil
}
