package main

import (
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/bench"
)

// A setting with which nobody gets in must not pass for one that was not later.
func TestConnectJudgesRefusals(t *testing.T) {
	f := connectBenchFlags{roundTrips: []time.Duration{0}, atMost: time.Second}
	in := bench.ConnectRow{ConnectSetting: bench.ConnectSetting{Way: bench.TLS, Rate: 10}, ConnectTimes: bench.ConnectTimes{Due: 1, Made: 1}}
	if err := f.judge(bench.ConnectReport{Rows: []bench.ConnectRow{in}}); err != nil {
		t.Error(err)
	}
	out := in
	out.Way, out.Device, out.Made, out.Error = bench.Attested, bench.FastDevice, 0, "evidence was refused"
	err := f.judge(bench.ConnectReport{Rows: []bench.ConnectRow{in, out}})
	if err == nil || !strings.Contains(err.Error(), "no client got in (attested") || !strings.Contains(err.Error(), "evidence was refused") {
		t.Error(err)
	}
}
