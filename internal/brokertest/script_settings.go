package brokertest

import (
	"fmt"
	"strings"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// start configures the core, before the first line that needs it.
func (s *Script) start() error {
	if s.ready {
		return nil
	}
	s.ready = true
	if !s.ruled {
		s.rules = []abi.Rule{{
			Who: []abi.Condition{{Listener: "plain"}}, Publish: []string{"#", "$SYS/#", "$x/#"}, Subscribe: []string{"#", "$SYS/#", "$x/#"},
		}}
	}
	s.configure()
	return s.rig.Run()
}

func (s *Script) configure() {
	s.rig.Configure(&abi.Config{Limits: s.limits, Options: s.options, Rules: s.rules})
	if s.ready {
		s.ruled = false
	}
}

func (s *Script) setLimits(w *words) error {
	for name, set := range limitFields {
		if n, ok := w.number(name); ok {
			set(&s.limits, n)
		}
	}
	return w.end()
}

// limitFields are the words that stand for limits.
var limitFields = map[string]func(*abi.Limits, uint32){
	"max-inflight":       func(l *abi.Limits, n uint32) { l.MaxInflight = uint16(n) },
	"receive-maximum":    func(l *abi.Limits, n uint32) { l.ReceiveMaximum = uint16(n) },
	"alias-maximum":      func(l *abi.Limits, n uint32) { l.TopicAliasMaximum = uint16(n) },
	"max-queued":         func(l *abi.Limits, n uint32) { l.MaxQueued = n },
	"max-queued-bytes":   func(l *abi.Limits, n uint32) { l.MaxQueuedBytes = n },
	"max-retained":       func(l *abi.Limits, n uint32) { l.MaxRetained = n },
	"max-retained-bytes": func(l *abi.Limits, n uint32) { l.MaxRetainedBytes = n },
	"max-sessions":       func(l *abi.Limits, n uint32) { l.MaxSessions = n },
	"max-subscriptions":  func(l *abi.Limits, n uint32) { l.MaxSubscriptions = n },
	"max-topic-levels":   func(l *abi.Limits, n uint32) { l.MaxTopicLevels = uint16(n) },
	"max-keep-alive":     func(l *abi.Limits, n uint32) { l.MaxKeepAlive = uint16(n) },
	"max-session-expiry": func(l *abi.Limits, n uint32) { l.MaxSessionExpiry = n },
	"max-memory":         func(l *abi.Limits, n uint32) { l.MaxMemory = n },
	"connect-timeout":    func(l *abi.Limits, n uint32) { l.ConnectTimeout = n },
	"stall-timeout":      func(l *abi.Limits, n uint32) { l.StallTimeout = n },
	"step-work":          func(l *abi.Limits, n uint32) { l.StepWork = n },
	"max-topic-bytes":    func(l *abi.Limits, n uint32) { l.MaxTopicBytes = uint16(n) },
	"max-aliases-out":    func(l *abi.Limits, n uint32) { l.MaxAliasesOut = uint16(n) },
	"max-module-memory":  func(l *abi.Limits, n uint32) { l.MaxModuleMemory = n },
}

// addRule reads "identity=x listener=y or anonymous publish a b subscribe c".
func (s *Script) addRule(w *words) error {
	if !s.ruled { // the first of a list
		s.ruled, s.rules = true, nil
	}
	rule := abi.Rule{Who: []abi.Condition{{}}, Provenance: w.flag("provenance")}
	var to *[]string
	for _, word := range w.list {
		name, value, _ := strings.Cut(word, "=")
		who := &rule.Who[len(rule.Who)-1]
		switch {
		case word == "publish":
			to = &rule.Publish
		case word == "subscribe":
			to = &rule.Subscribe
		case to != nil:
			*to = append(*to, word)
		case word == "or":
			rule.Who = append(rule.Who, abi.Condition{})
		case word == "anonymous":
			who.Anonymous = true
		case name == "identity":
			who.Identity = value
		case name == "user":
			who.User = value
		case name == "listener":
			who.Listener = value
		default:
			return fmt.Errorf("unknown word %q", word)
		}
	}
	s.rules = append(s.rules, rule)
	return nil
}
