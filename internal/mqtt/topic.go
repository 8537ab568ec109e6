package mqtt

// ValidTopicName tells whether b may be published to: 1 to 65,535 bytes of UTF-8
// without U+0000 and without wildcards ([MQTT-4.7.0-1], [MQTT-4.7.3-1] to -3).
func ValidTopicName(b []byte) bool {
	return len(b) > 0 && len(b) <= MaxStringLength && checkTopicName(b) == nil
}

// ValidTopicFilter tells whether b may be subscribed to: as a topic name, but +
// may stand for a level and # for the last levels (4.7.1). It knows nothing of
// shared subscriptions, for which see ParseShared.
func ValidTopicFilter(b []byte) bool {
	return len(b) <= MaxStringLength && checkFilter(b) == nil
}

// HasWildcard tells whether a topic filter contains # or +.
func HasWildcard(filter []byte) bool { return scanText(filter).wild }

const sharePrefix = "$share/"

// ParseShared takes a filter of the form $share/GROUP/FILTER apart (4.8.2).
// shared tells whether the filter begins with $share/; if it does not, filter is
// the input. ok is false if it does and what follows is not a share name of one
// character or more without wildcards, and a valid topic filter that is not
// itself a shared one.
func ParseShared(b []byte) (group, filter []byte, shared, ok bool) {
	if !hasSharePrefix(b) {
		return nil, b, false, true
	}
	group, filter, _ = CutLevel(b[len(sharePrefix):])
	ok = len(group) > 0 && !HasWildcard(group) && // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
		checkText(group) == nil && ValidTopicFilter(filter) && !hasSharePrefix(filter)
	return group, filter, true, ok
}

func hasSharePrefix(b []byte) bool {
	return len(b) >= len(sharePrefix) && string(b[:len(sharePrefix)]) == sharePrefix
}

// CutLevel cuts the first level off a topic name or filter (4.7.1.1): what is before and behind the first slash.
// more is false if there is none.
func CutLevel(b []byte) (level, rest []byte, more bool) {
	for i, c := range b {
		if c == '/' {
			return b[:i], b[i+1:], true
		}
	}
	return b, nil, false
}

func isHash(b []byte) bool { return len(b) == 1 && b[0] == '#' }
func isPlus(b []byte) bool { return len(b) == 1 && b[0] == '+' }

// hidden tells whether a filter's first level is a wildcard that the topic, or
// the first level of another filter, escapes by beginning with $ [MQTT-4.7.2-1].
func hidden(filter, topic []byte) bool {
	return len(topic) > 0 && topic[0] == '$' && len(filter) > 0 && (filter[0] == '#' || filter[0] == '+')
}

// Match tells whether a valid topic filter matches a valid topic name (4.7).
// A shared subscription is matched by the filter that ParseShared gives.
func Match(filter, topic []byte) bool {
	if hidden(filter, topic) {
		return false // [MQTT-4.7.2-1]
	}
	for {
		if isHash(filter) {
			return true
		}
		want, wantRest, wantMore := CutLevel(filter)
		have, haveRest, haveMore := CutLevel(topic)
		if !isPlus(want) && string(want) != string(have) {
			return false
		}
		if !haveMore {
			return !wantMore || isHash(wantRest) // 4.7.1.2: # includes the parent level
		}
		if !wantMore {
			return false
		}
		filter, topic = wantRest, haveRest
	}
}

// Covers tells whether every topic that the valid filter requested matches is
// matched by the valid filter allowed too. It is the question behind "may this
// client subscribe to that, given what it may read". Both are filters of the
// topics themselves, without $share.
func Covers(allowed, requested []byte) bool {
	if hidden(allowed, requested) {
		return false // [MQTT-4.7.2-1]
	}
	switch string(requested) { // there is no parent: the empty topic does not exist [MQTT-4.7.3-1]
	case "#":
		requested = []byte("+/#")
	case "/#":
		requested = []byte("/+/#")
	}
	for {
		if isHash(allowed) {
			return true
		}
		if isHash(requested) {
			return false // requested goes on to any depth, allowed does not
		}
		can, canRest, canMore := CutLevel(allowed)
		want, wantRest, wantMore := CutLevel(requested)
		if !isPlus(can) && string(can) != string(want) { // a + in requested needs a + here
			return false
		}
		if !wantMore {
			return !canMore || isHash(canRest) // 4.7.1.2: # includes the parent level
		}
		if !canMore {
			return false
		}
		allowed, requested = canRest, wantRest
	}
}
