package tpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
)

// Constants of event logs (PC Client Platform Firmware Profile, 10.2 to 10.4).
const (
	eventNoAction   = 0x00000003
	maxEvents       = 4096
	maxLogHashes    = 8
	specID          = "Spec ID Event03\x00"
	startupLocality = "StartupLocality\x00"
	sha1Size        = 20
)

// Event is one entry of an event log: its digests went into a PCR.
type Event struct {
	PCR     int
	Type    uint32
	Digests map[crypto.Hash][]byte // of SHA-256 and SHA-384
	Data    []byte
}

// EventLog is what the firmware says that it has measured. Its events count as far as they lead to values that were signed; their data is
// what the firmware says of them.
type EventLog struct {
	Events   []Event
	hashes   map[crypto.Hash]bool
	locality byte // of the startup, which PCR 0 begins with
}

// ParseEventLog reads a log in the crypto-agile format of the TCG, as Linux shows it in
// /sys/kernel/security/tpm0/binary_bios_measurements. It is little-endian.
func ParseEventLog(data []byte) (*EventLog, error) {
	r := &logReader{reader{rest: data}}
	log := &EventLog{hashes: map[crypto.Hash]bool{}}
	sizes, err := log.header(r)
	if err != nil {
		return nil, fmt.Errorf("its first event: %w", err)
	}
	for len(r.rest) > 0 {
		if len(log.Events) == maxEvents {
			return nil, fmt.Errorf("it has more than %d events", maxEvents)
		}
		e, err := r.event(sizes)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", len(log.Events)+1, err)
		}
		log.Events = append(log.Events, e)
		log.noteLocality(&e)
	}
	return log, nil
}

// noteLocality takes the start of PCR 0 from the event that says it (10.4.5.3).
func (l *EventLog) noteLocality(e *Event) {
	if rest, ok := bytes.CutPrefix(e.Data, []byte(startupLocality)); ok && e.Type == eventNoAction && e.PCR == 0 && len(rest) == 1 {
		l.locality = rest[0]
	}
}

// header reads the first event, in the old format, which says of which hash functions the others have digests (TCG_EfiSpecIDEvent, 10.4.5.1).
func (l *EventLog) header(r *logReader) (sizes map[uint16]int, err error) {
	r.le32() // register, 0 for TPMs and 1 for TDX
	kind := r.le32()
	r.take(sha1Size)
	size := r.le32()
	body := r.take(int(min(size, maxEventLogSize)))
	if r.err != nil {
		return nil, r.err
	}
	rest, ok := bytes.CutPrefix(body, []byte(specID))
	if kind != eventNoAction || !ok {
		return nil, errors.New("it does not announce the crypto-agile format (version 2.0)")
	}
	spec := &logReader{reader{rest: rest}}
	spec.take(4 + 4) // class of platform; version and size of integers
	count := spec.le32()
	if spec.err != nil || count == 0 || count > maxLogHashes {
		return nil, fmt.Errorf("it announces digests of %d hash functions, not 1 to %d", count, maxLogHashes)
	}
	sizes = map[uint16]int{}
	for range count {
		alg, size := spec.le16(), int(spec.le16())
		hash, known := hashOf(alg)
		if size > 64 || known && size != hash.Size() {
			return nil, fmt.Errorf("it announces digests of %d bytes of the hash function %#04x", size, alg)
		}
		sizes[alg] = size
		l.hashes[hash] = known
	}
	spec.take(int(spec.u8())) // of the vendor
	return sizes, spec.end()
}

// Replay returns the values of the PCRs that the log has events of.
func (l *EventLog) Replay(hash crypto.Hash) (map[int][]byte, error) {
	if !l.hashes[hash] {
		return nil, fmt.Errorf("it has no digests of %s", hash)
	}
	pcrs := map[int][]byte{}
	for i := range l.Events {
		e := &l.Events[i]
		if e.Type == eventNoAction {
			continue
		}
		if pcrs[e.PCR] == nil {
			pcrs[e.PCR] = l.initial(hash, e.PCR)
		}
		pcrs[e.PCR] = extended(hash, pcrs[e.PCR], e.Digests[hash])
	}
	return pcrs, nil
}

// initial is what a PCR holds when the machine starts (PC Client Platform Firmware Profile, 2.3.4).
func (l *EventLog) initial(hash crypto.Hash, pcr int) []byte {
	value := make([]byte, hash.Size())
	switch {
	case pcr == 0:
		value[len(value)-1] = l.locality
	case pcr >= 17 && pcr <= 22: // reset by a dynamic launch only
		value = bytes.Repeat([]byte{0xff}, len(value))
	}
	return value
}

// extended is the value of a PCR after a digest (part 1, 17.2).
func extended(hash crypto.Hash, value, digest []byte) []byte {
	h := hash.New()
	h.Write(value)
	h.Write(digest)
	return h.Sum(nil)
}

// logReader reads little-endian numbers.
type logReader struct{ reader }

func (r *logReader) le16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *logReader) le32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// event reads a TCG_PCR_EVENT2 (10.2.2). It has one digest of each hash function that was announced.
func (r *logReader) event(sizes map[uint16]int) (Event, error) {
	pcr, kind, count := r.le32(), r.le32(), r.le32()
	e := Event{PCR: int(pcr), Type: kind, Digests: map[crypto.Hash][]byte{}}
	if r.err != nil {
		return e, r.err
	}
	if pcr >= Registers && kind != eventNoAction {
		return e, fmt.Errorf("it is about PCR %d, and there are %d", pcr, Registers)
	}
	if int(count) != len(sizes) {
		return e, fmt.Errorf("it has %d digests, not %d", count, len(sizes))
	}
	seen := map[uint16]bool{}
	for range count {
		alg := r.le16()
		size, ok := sizes[alg]
		if r.err == nil && (!ok || seen[alg]) {
			return e, fmt.Errorf("it has a digest of the hash function %#04x, which was not announced or is there already", alg)
		}
		seen[alg] = true
		digest := r.take(size)
		if hash, known := hashOf(alg); known {
			e.Digests[hash] = digest
		}
	}
	e.Data = r.take(int(min(r.le32(), 1<<30)))
	return e, r.err
}
