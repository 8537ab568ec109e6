package main

import (
	"time"

	"github.com/vouchmq/vouchmq/bench"
)

// connect measures new connections: the first case of the paper.
func (r *evaluationRun) connect() error {
	r.note("new connections")
	f := connectBenchFlags{
		only: bench.ConnectParts, peers: r.peers, peerCA: r.peerCA, rates: fewer(bench.PaperConnectRates, true), at: 10,
		roundTrips: evaluatedRoundTrips, quotes: evaluatedQuotes, rounds: r.rounds, clients: 16, duration: r.duration, warmup: r.warmup,
	}
	report, err := f.measure(r.brokers)
	if len(report.Samples) > 0 {
		r.result.Connect = &report
	}
	return err
}

// connections measures connections that do nothing.
func (r *evaluationRun) connections() error {
	r.note("idle connections")
	f := connectionsFlags{engine: "wasm", peers: r.peers, peerCA: r.peerCA, plan: bench.ConnectionsPlan{
		Counts: []int{1_000, 10_000}, Rounds: 1, Window: 3 * time.Second, Settle: 5 * time.Second, KeepAlive: time.Minute,
	}}
	if r.quick {
		f.plan.Counts, f.plan.Window, f.plan.Settle = []int{200, 1_000}, time.Second, time.Second
	}
	report, err := f.measure(r.c, r.brokers.dir)
	if len(report.Samples) > 0 {
		r.result.Connections = &report
	}
	return err
}
