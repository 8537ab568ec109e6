package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Evaluation is everything that was measured at one go, and on what. It is what a page is made of.
type Evaluation struct {
	Program     string             `json:"program"` // with its version
	Command     string             `json:"command"` // with which it was measured
	Started     time.Time          `json:"started"`
	Took        Seconds            `json:"took_seconds"`
	Machine     Machine            `json:"machine"`
	Others      []string           `json:"others,omitempty"` // versions of other brokers
	Throughput  []Report           `json:"throughput,omitempty"`
	Paced       []PacedReport      `json:"paced,omitempty"`
	Connect     *ConnectReport     `json:"connect,omitempty"`
	Connections *ConnectionsReport `json:"connections,omitempty"`
	Scale       *ScaleReport       `json:"scale,omitempty"`
}

// Machine is what was measured on.
type Machine struct {
	Processor  string `json:"processor"`
	Processors int    `json:"processors"` // that programs can use
	Memory     uint64 `json:"memory_bytes"`
	System     string `json:"system"`
	Go         string `json:"go"`
}

// ThisMachine describes this machine, as far as it can be known.
func ThisMachine() Machine {
	m := Machine{
		Processor: runtime.GOARCH, Processors: runtime.NumCPU(), Go: runtime.Version(), System: runtime.GOOS,
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.Processor = orElse(field(text, "model name"), m.Processor)
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib uint64
		fmt.Sscan(field(text, "MemTotal"), &kib)
		m.Memory = kib << 10
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += " " + strings.TrimSpace(string(text))
	}
	return m
}

// field is the first value of that name in a file of lines "name: value".
func field(text []byte, name string) string {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Bar is what VouchMQ aims at, and what was measured.
type Bar struct {
	What    string  `json:"what"`
	Value   float64 `json:"value"`
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least"` // else at most
	Unit    string  `json:"unit,omitempty"`
}

// Met reports whether it was reached.
func (b Bar) Met() bool {
	if b.AtLeast {
		return b.Value >= b.Limit
	}
	return b.Value <= b.Limit
}

// mosquittoGoals are how many times as much as Mosquitto, by QoS and shape.
var mosquittoGoals = [3]map[string]float64{
	{"p2p": 10, "fan-in": 10, "fan-out": 8},
	{"p2p": 5, "fan-in": 5, "fan-out": 5},
	{"p2p": 4, "fan-in": 4, "fan-out": 4},
}

// lossGoals are how many times as much the same broker may deliver natively over ordinary TLS, by QoS. The paper lost a
// factor of 1.55.
var lossGoals = [3]float64{1.15, 1.25, 1.25}

const (
	paperRate      = 200    // messages per second, the paper's highest
	highRate       = 20_000 // messages per second
	paperRateRatio = 1.1
	highRateP99    = 2 * time.Millisecond
)

// Bars compares what was measured with what VouchMQ aims at. What was not measured is not among them.
func (e *Evaluation) Bars() (all []Bar) {
	for _, r := range e.Throughput {
		all = append(all, r.bars()...)
	}
	for _, r := range e.Paced {
		all = append(all, r.bars()...)
	}
	if e.Connect != nil {
		all = append(all, e.Connect.bars()...)
	}
	if e.Connections != nil {
		all = append(all, e.Connections.bars()...)
	}
	return all
}

func (r Report) bars() (all []Bar) {
	for _, ratio := range r.Ratios {
		b := Bar{What: fmt.Sprintf("%s / %s, QoS %d, %s", ratio.Of, ratio.To, r.QoS, ratio.Shape), Value: ratio.Value}
		switch ratio.To {
		case NativeTLS: // told the other way round, as the paper does
			b.What = fmt.Sprintf("%s / %s, QoS %d, %s", ratio.To, ratio.Of, r.QoS, ratio.Shape)
			b.Value, b.Limit = 1/ratio.Value, lossGoals[r.QoS]
		default:
			b.Limit, b.AtLeast = mosquittoGoals[r.QoS][ratio.Shape], true
		}
		all = append(all, b)
	}
	return all
}

func (r PacedReport) bars() (all []Bar) {
	if r.Case != "rate" {
		return nil
	}
	for _, ratio := range r.Ratios {
		if ratio.X == paperRate && ratio.To == MosquittoTLS {
			all = append(all, Bar{
				What:  fmt.Sprintf("p99 at %d messages/s of %d bytes, %s / %s", paperRate, r.Payload, ratio.Of, ratio.To),
				Value: ratio.Value, Limit: paperRateRatio,
			})
		}
	}
	for _, row := range r.Rows {
		if row.X == highRate && row.Variant == WasmAttested && row.Failed == 0 {
			all = append(all, Bar{
				What:  fmt.Sprintf("p99 at %s messages/s of %d bytes, %s", thousands(highRate), r.Payload, row.Variant),
				Value: row.P99.Number() / 1000, Limit: float64(highRateP99) / float64(time.Millisecond), Unit: "ms",
			})
		}
	}
	return all
}
