package main

import (
	"bytes"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/bench"
)

// The memory of a peer can be measured if its process is known; else it is left out, and the reason said.
func TestPeersOfUnknownProcessesAreLeftOut(t *testing.T) {
	p := benchPeer{name: "known", address: "127.0.0.1:1"}
	f := connectionsFlags{processes: map[string]int{"known": os.Getpid()}}
	b := f.peerForScale(p)
	bytes, err := b.RSS()
	if err != nil || bytes == 0 {
		t.Error(bytes, err)
	}
	if used, err := b.ProcessorTime(); err != nil || used <= 0 {
		t.Error(used, err)
	}
	known, leftOut := f.knownPeers([]benchPeer{p, {name: "unknown"}})
	if len(known) != 1 || known[0].name != "known" || len(leftOut) != 1 || !strings.Contains(leftOut[0], "unknown: its memory cannot be measured") {
		t.Errorf("%v, %v", known, leftOut)
	}
}

// Without Mosquitto all else is measured, unless it was asked for.
func TestWaysBeside(t *testing.T) {
	var log bytes.Buffer
	peers := []benchPeer{{name: "emqx"}}
	asked := waysOr([]string{bench.TLS, bench.MosquittoTLS}, connectVariants, peers, &log)
	if strings.Join(asked, " ") != "tls mosquitto-tls emqx" || log.Len() > 0 {
		t.Error(asked, log.String())
	}
	all := strings.Join(waysOr(nil, connectVariants, peers, &log), " ")
	if has := bench.HasMosquitto() == nil; strings.Contains(all, bench.MosquittoTLS) != has || (log.Len() == 0) != has || !strings.HasSuffix(all, " emqx") {
		t.Error(all, log.String())
	}
}

// A peer is reached at its own address, or over a network that is slow.
func TestConnectReachesPeers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := connectNetwork{peers: []benchPeer{{name: "emqx", address: l.Addr().String()}}, proxies: map[string]*bench.DelayProxy{}}
	defer n.close()
	for _, roundTrip := range []time.Duration{0, time.Millisecond} {
		dial, err := n.dial(t.Context(), bench.ConnectSetting{Way: "emqx", RoundTrip: bench.Micros(roundTrip)})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if _, slow := n.proxies[l.Addr().String()+" "+roundTrip.String()]; slow != (roundTrip > 0) {
			t.Errorf("round trip %v: a proxy is %v", roundTrip, slow)
		}
	}
}
