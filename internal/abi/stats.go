package abi

import "encoding/binary"

// Stats is the data of EffectStats: what the core has counted since it started, and what it holds now.
type Stats struct {
	Connections   uint64 // now, with a session
	Sessions      uint64 // now, connected or not
	Subscriptions uint64 // now
	Retained      uint64 // now
	Queued        uint64 // messages that wait in queues or for acknowledgement, now
	MessageBytes  uint64 // bytes of messages that the core keeps, now
	Received      uint64 // PUBLISH packets
	Sent          uint64 // PUBLISH packets, one for each receiver
	DroppedQoS0   uint64 // because a receiver was blocked
	DroppedQueue  uint64 // because a session's queue, or the core's memory, was full
	Denied        uint64 // publishes and subscribes that the rules refused; subscriptions, waiting messages and wills that they ended
	Refused       uint64 // CONNECTs that were refused
	Faults        uint64 // connections that were ended because they broke the protocol
	RetainedBytes uint64 // of retained messages, now
	Shared        uint64 // subscriptions of shared subscription groups, now; part of Subscriptions
	Inflight      uint64 // messages that clients have not acknowledged, now; part of Queued
	Memory        uint64 // bytes that all tables of the core take, now
	Expired       uint64 // messages that were dropped because they had expired
	Authenticated uint64 // CONNECTs and AUTHs that the host let in
	LimitsMet     [NumLimits]uint64
}

const numStats = 19 + NumLimits

func (s *Stats) fields() [numStats]*uint64 {
	fields := [numStats]*uint64{
		&s.Connections, &s.Sessions, &s.Subscriptions, &s.Retained, &s.Queued, &s.MessageBytes,
		&s.Received, &s.Sent, &s.DroppedQoS0, &s.DroppedQueue, &s.Denied, &s.Refused, &s.Faults,
		&s.RetainedBytes, &s.Shared, &s.Inflight, &s.Memory, &s.Expired, &s.Authenticated,
	}
	for i := range s.LimitsMet {
		fields[numStats-NumLimits+i] = &s.LimitsMet[i]
	}
	return fields
}

// AppendStats appends the encoding of s to b: its fields in order, u64 each.
func AppendStats(b []byte, s *Stats) []byte {
	for _, p := range s.fields() {
		b = binary.LittleEndian.AppendUint64(b, *p)
	}
	return b
}

// ReadStats reads what AppendStats wrote.
func ReadStats(b []byte, s *Stats) error {
	if len(b) != numStats*8 {
		return Fault("statistics are not of the right size")
	}
	for i, p := range s.fields() {
		*p = binary.LittleEndian.Uint64(b[i*8:])
	}
	return nil
}
