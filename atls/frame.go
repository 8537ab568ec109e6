package atls

import (
	"encoding/binary"
	"io"

	"github.com/vouchmq/vouchmq/attest"
)

// A frame is u32 length and evidence. It carries the evidence of clients, and that of the server in carrier P1.

// writeFrame sends evidence, nil for none, in one write.
func writeFrame(w io.Writer, evidence []byte) error {
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, lengthSize+len(evidence)), uint32(len(evidence)))
	_, err := w.Write(append(frame, evidence...))
	return err
}

// readFrame reads evidence, nil for none, and nothing behind it. The length is checked before anything is allocated.
func readFrame(r io.Reader) ([]byte, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 {
		return nil, nil
	}
	if n > attest.MaxEvidenceSize {
		return nil, attest.Errorf(attest.ErrFormat, "frame of evidence of %d bytes is too large (at most %d)", n, attest.MaxEvidenceSize)
	}
	evidence := make([]byte, n)
	_, err := io.ReadFull(r, evidence)
	return evidence, err
}

// readServerFrame reads the evidence of a server, which must not be empty.
func readServerFrame(r io.Reader) ([]byte, error) {
	evidence, err := readFrame(r)
	if err == nil && evidence == nil {
		return nil, errNoEvidence()
	}
	return evidence, err
}

// errNoEvidence says what it means that a server says nothing in the place of evidence.
func errNoEvidence() error {
	return attest.Errorf(attest.ErrMissing, "the server sent no evidence: its attester may have failed, see its log")
}
