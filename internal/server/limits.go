package server

import "github.com/vouchmq/vouchmq/internal/abi"

// mergeLimits fills the fields of l that are 0 from d.
func mergeLimits(l, d abi.Limits) abi.Limits {
	merge(&l.MaxPacketSize, d.MaxPacketSize)
	merge(&l.MaxInflight, d.MaxInflight)
	merge(&l.ReceiveMaximum, d.ReceiveMaximum)
	merge(&l.TopicAliasMaximum, d.TopicAliasMaximum)
	merge(&l.MaxQueued, d.MaxQueued)
	merge(&l.MaxQueuedBytes, d.MaxQueuedBytes)
	merge(&l.MaxRetained, d.MaxRetained)
	merge(&l.MaxRetainedBytes, d.MaxRetainedBytes)
	merge(&l.MaxSessions, d.MaxSessions)
	merge(&l.MaxSubscriptions, d.MaxSubscriptions)
	merge(&l.MaxTopicLevels, d.MaxTopicLevels)
	merge(&l.MaxKeepAlive, d.MaxKeepAlive)
	merge(&l.MaxSessionExpiry, d.MaxSessionExpiry)
	merge(&l.MaxMemory, d.MaxMemory)
	merge(&l.ConnectTimeout, d.ConnectTimeout)
	merge(&l.StallTimeout, d.StallTimeout)
	merge(&l.StepWork, d.StepWork)
	merge(&l.MaxTopicBytes, d.MaxTopicBytes)
	merge(&l.MaxAliasesOut, d.MaxAliasesOut)
	merge(&l.MaxModuleMemory, d.MaxModuleMemory)
	return l
}

func merge[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
