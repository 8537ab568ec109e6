package metrics

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Topic is one value below $SYS.
type Topic struct {
	Name  string
	Value string
}

// sysPrefix is the root of all topics; Mosquitto's is the same.
const sysPrefix = "$SYS/broker/"

// History is what $SYS needs to know of the past: averages and maxima. The zero value is that of a broker that has
// just started. It is a value: Next does not change it.
type History struct {
	at         time.Time
	counts     [numLoads]uint64
	averages   [numLoads][len(periods)]float64 // per minute
	maxClients uint64
	maxHeap    uint64
}

// periods are those of the averages.
var periods = [...]struct {
	name string
	span time.Duration
}{{"1min", time.Minute}, {"5min", 5 * time.Minute}, {"15min", 15 * time.Minute}}

// load is a count of which averages are kept.
type load struct {
	name    string
	traffic bool // known only if traffic is counted
	count   func(s *Snapshot) uint64
}

const numLoads = 8

func loads() [numLoads]load {
	return [numLoads]load{
		{"messages/received", true, func(s *Snapshot) uint64 { return s.Traffic.PacketsIn }},
		{"messages/sent", true, func(s *Snapshot) uint64 { return s.Traffic.PacketsOut }},
		{"bytes/received", true, func(s *Snapshot) uint64 { return s.Traffic.BytesIn }},
		{"bytes/sent", true, func(s *Snapshot) uint64 { return s.Traffic.BytesOut }},
		{"publish/received", false, func(s *Snapshot) uint64 { return s.Core.Received }},
		{"publish/sent", false, func(s *Snapshot) uint64 { return s.Core.Sent }},
		{"publish/dropped", false, sysDropped},
		{"sockets", false, func(s *Snapshot) uint64 { return s.Transport.Accepted }},
	}
}

// sysDropped leaves out messages that expired: Mosquitto counts those that did not fit.
func sysDropped(s *Snapshot) uint64 {
	return s.Core.DroppedQoS0 + s.Core.DroppedQueue + s.Transport.DroppedQoS0
}

// Next returns the history with a snapshot added.
func (h History) Next(s *Snapshot) History {
	h.maxClients = max(h.maxClients, s.Core.Connections)
	h.maxHeap = max(h.maxHeap, s.Core.Memory)
	passed := s.At.Sub(h.at)
	if h.at.IsZero() {
		passed = s.At.Sub(s.Facts.Started)
	}
	if passed <= 0 {
		return h
	}
	for i, l := range loads() {
		if l.traffic && s.Traffic == nil {
			continue
		}
		count := l.count(s)
		rate := float64(since(h.counts[i], count)) / passed.Minutes()
		for p := range periods {
			h.averages[i][p] = average(h.averages[i][p], rate, passed, periods[p].span)
		}
		h.counts[i] = count
	}
	h.at = s.At
	return h
}

// since is what a counter has gained; all of it if it began anew.
func since(before, now uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

// average is the exponential moving average of a rate that held for a time: what was known before counts less the
// longer that time is.
func average(before, rate float64, passed, span time.Duration) float64 {
	return rate + math.Exp(-passed.Seconds()/span.Seconds())*(before-rate)
}

// Topics returns all values below $SYS. h is the history with s added.
func Topics(s *Snapshot, h *History) []Topic {
	t := topics{}
	t.text("version", "vouchmq version "+s.Facts.Version)
	t.text("uptime", fmt.Sprintf("%d seconds", max(0, int64(s.At.Sub(s.Facts.Started).Seconds()))))
	t.clients(s, h)
	t.messages(s)
	t.number("heap/current", s.Core.Memory)
	t.number("heap/maximum", h.maxHeap)
	t.loads(s, h)
	return t
}

type topics []Topic

func (t *topics) text(name, value string) { *t = append(*t, Topic{sysPrefix + name, value}) }

func (t *topics) number(name string, n uint64) { t.text(name, strconv.FormatUint(n, 10)) }

func (t *topics) clients(s *Snapshot, h *History) {
	offline := s.Core.Sessions - min(s.Core.Connections, s.Core.Sessions)
	t.number("clients/total", s.Core.Sessions)
	t.number("clients/connected", s.Core.Connections)
	t.number("clients/active", s.Core.Connections) // the older name of the same
	t.number("clients/disconnected", offline)
	t.number("clients/inactive", offline)
	t.number("clients/maximum", h.maxClients)
	t.number("subscriptions/count", s.Core.Subscriptions)
	t.number("shared_subscriptions/count", s.Core.Shared)
}

func (t *topics) messages(s *Snapshot) {
	t.number("publish/messages/received", s.Core.Received)
	t.number("publish/messages/sent", s.Core.Sent)
	t.number("publish/messages/dropped", sysDropped(s))
	t.number("retained messages/count", s.Core.Retained)
	t.number("store/messages/count", s.Core.Retained+s.Core.Queued)
	t.number("store/messages/bytes", s.Core.MessageBytes)
	t.number("messages/stored", s.Core.Retained+s.Core.Queued) // the older name of store/messages/count
	if s.Traffic == nil {
		return
	}
	t.number("messages/received", s.Traffic.PacketsIn)
	t.number("messages/sent", s.Traffic.PacketsOut)
	t.number("bytes/received", s.Traffic.BytesIn)
	t.number("bytes/sent", s.Traffic.BytesOut)
}

func (t *topics) loads(s *Snapshot, h *History) {
	for i, l := range loads() {
		if l.traffic && s.Traffic == nil {
			continue
		}
		for p, period := range periods {
			t.text("load/"+l.name+"/"+period.name, strconv.FormatFloat(h.averages[i][p], 'f', 2, 64))
		}
	}
}
