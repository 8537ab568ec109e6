package admin

import (
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/metrics"
)

// Status is how a broker is doing.
type Status struct {
	State     string     `json:"state"` // running or draining
	Started   time.Time  `json:"started"`
	Uptime    int64      `json:"uptime_seconds"`
	Build     Build      `json:"build"`
	Listeners []Listener `json:"listeners"`

	Connections         int    `json:"connections"`
	Handshakes          int    `json:"handshakes"`
	Accepted            uint64 `json:"connections_accepted"`
	ConnectionsRejected uint64 `json:"connections_rejected"`
	HandshakesFailed    uint64 `json:"handshakes_failed"`

	Sessions            uint64 `json:"sessions"`
	SessionsConnected   uint64 `json:"sessions_connected"`
	Subscriptions       uint64 `json:"subscriptions"`
	SharedSubscriptions uint64 `json:"shared_subscriptions"`
	Retained            uint64 `json:"retained"`
	RetainedBytes       uint64 `json:"retained_bytes"`
	Queued              uint64 `json:"queued"`
	Inflight            uint64 `json:"inflight"`
	Received            uint64 `json:"messages_received"`
	Sent                uint64 `json:"messages_sent"`
	Dropped             uint64 `json:"messages_dropped"`
	Expired             uint64 `json:"messages_expired"`

	ConnectsRefused uint64            `json:"connects_refused"`
	Denied          uint64            `json:"requests_denied"`
	ProtocolErrors  uint64            `json:"protocol_errors"`
	LimitsMet       map[string]uint64 `json:"limits_met"`      // those that were met at all
	Guard           map[string]uint64 `json:"guard,omitempty"` // what authentication and the guard did

	StoredBytes  uint64        `json:"stored_bytes"`
	CoreMemory   uint64        `json:"core_memory_bytes"`
	ModuleMemory uint64        `json:"module_memory_bytes"`
	Restarts     uint64        `json:"core_restarts"`
	LongestStep  time.Duration `json:"longest_step_ns"`
}

// Build is what runs, and what evidence claims of it.
type Build struct {
	Version   string `json:"version"`
	Go        string `json:"go"`
	Engine    string `json:"engine"`
	TEE       string `json:"tee"`
	Simulated bool   `json:"simulated"`
	Module    string `json:"module"` // digests
	Config    string `json:"config"`
	Runtime   string `json:"runtime"`
}

func buildOf(s *metrics.Snapshot) Build {
	f := &s.Facts
	return Build{f.Version, f.Go, s.Engine.Kind, f.TEE, f.Simulated, f.Module, f.Config, f.Runtime}
}

func statusOf(s *metrics.Snapshot) Status {
	c, t := &s.Core, &s.Transport
	return Status{
		State: "running", Started: s.Facts.Started.UTC(), Uptime: int64(s.At.Sub(s.Facts.Started).Seconds()), Build: buildOf(s),
		Connections: t.Connections, Handshakes: t.Handshakes, Accepted: t.Accepted, ConnectionsRejected: t.Refused,
		HandshakesFailed: t.FailedHandshakes, Sessions: c.Sessions, SessionsConnected: c.Connections,
		Subscriptions: c.Subscriptions, SharedSubscriptions: c.Shared, Retained: c.Retained, RetainedBytes: c.RetainedBytes,
		Queued: c.Queued, Inflight: c.Inflight, Received: c.Received, Sent: c.Sent,
		Dropped: c.DroppedQoS0 + c.DroppedQueue + t.DroppedQoS0, Expired: c.Expired, ConnectsRefused: c.Refused, Denied: c.Denied,
		ProtocolErrors: c.Faults, LimitsMet: limitsMet(s), Guard: s.Guard, StoredBytes: c.MessageBytes, CoreMemory: c.Memory,
		ModuleMemory: s.Engine.Memory, Restarts: s.Engine.Restarts, LongestStep: s.Engine.LongestStep,
	}
}

func limitsMet(s *metrics.Snapshot) map[string]uint64 {
	met := map[string]uint64{}
	for i, n := range s.Core.LimitsMet {
		if n > 0 {
			met[abi.LimitKind(i).String()] += n
		}
	}
	for name, n := range s.Limits {
		if n > 0 {
			met[name] += n
		}
	}
	return met
}

// Session is a client that the broker knows, connected or not.
type Session struct {
	ClientID      string      `json:"client_id"`
	User          string      `json:"user,omitempty"`
	Identity      string      `json:"identity,omitempty"`
	Connected     bool        `json:"connected"`
	Protocol      string      `json:"protocol"` // 3.1, 3.1.1 or 5.0
	KeepAlive     uint16      `json:"keep_alive_seconds"`
	Expiry        uint32      `json:"expiry_seconds"`               // that it outlives its connection
	ExpiresIn     uint32      `json:"expires_in_seconds,omitempty"` // while it has no connection
	Subscriptions uint32      `json:"subscriptions"`
	Queued        uint32      `json:"queued"`
	QueuedBytes   uint32      `json:"queued_bytes"`
	Inflight      uint32      `json:"inflight"`
	Received      uint32      `json:"received_unreleased"` // QoS 2 messages from the client
	Will          bool        `json:"will"`
	Connection    *Connection `json:"connection,omitempty"`
}

func sessionOf(r *abi.SessionRecord, broker Broker) Session {
	s := Session{
		ClientID: r.ClientID, User: r.User, Identity: r.Identity, Connected: r.Conn != 0, Protocol: protocolName(r.Version),
		KeepAlive: r.KeepAlive, Expiry: r.Expiry, ExpiresIn: r.ExpiresIn, Subscriptions: r.Subscriptions, Queued: r.Queued,
		QueuedBytes: r.QueuedBytes, Inflight: r.Inflight, Received: r.Received, Will: r.Will,
	}
	if r.Conn == 0 {
		return s
	}
	if c, ok := broker.Connection(r.Conn); ok {
		s.Connection = &c
	}
	return s
}

// protocolName names the protocol level of CONNECT.
func protocolName(level uint8) string {
	switch level {
	case 3:
		return "3.1"
	case 4:
		return "3.1.1"
	case 5:
		return "5.0"
	}
	return "unknown"
}

// Subscription is one of a session.
type Subscription struct {
	ClientID          string `json:"client_id"`
	Filter            string `json:"filter"` // with $share/NAME/ if it is shared
	QoS               uint8  `json:"qos"`
	NoLocal           bool   `json:"no_local"`
	RetainAsPublished bool   `json:"retain_as_published"`
	RetainHandling    uint8  `json:"retain_handling"`
	Identifier        uint32 `json:"identifier,omitempty"`
}

// Retained is a retained message, without its payload.
type Retained struct {
	Topic     string `json:"topic"`
	Bytes     uint32 `json:"bytes"` // of the payload
	QoS       uint8  `json:"qos"`
	ExpiresIn uint32 `json:"expires_in_seconds,omitempty"`
}

func retainedOf(r *abi.RetainedRecord) Retained {
	return Retained{Topic: r.Topic, Bytes: r.Size, QoS: r.QoS, ExpiresIn: r.ExpiresIn}
}

// Page is a part of a list. It may hold fewer things than were asked for, even none, and still not be the last.
type Page[T any] struct {
	Items  []T    `json:"items"`
	Cursor uint32 `json:"cursor"` // to ask on with; 0 if that was all
}
