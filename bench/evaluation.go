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
	Throughput  Reports            `json:"throughput,omitempty"`
	Paced       []PacedReport      `json:"paced,omitempty"`
	Connect     *ConnectReport     `json:"connect,omitempty"`
	Connections *ConnectionsReport `json:"connections,omitempty"`
	Match       *MatchReport       `json:"subscriptions,omitempty"`
	Scale       *ScaleReport       `json:"scale,omitempty"`
	Handshakes  *HandshakeReport   `json:"handshakes,omitempty"`
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
