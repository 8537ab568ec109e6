package atls

import (
	"encoding/binary"
	"io"

	"github.com/vouchmq/vouchmq/attest"
)

// writeFrame sends the client's evidence, nil for none, in one write.
func writeFrame(w io.Writer, evidence []byte) error {
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, lengthSize+len(evidence)), uint32(len(evidence)))
	_, err := w.Write(append(frame, evidence...))
	return err
}

// readFrame reads the client's evidence, nil for none. The length is checked before anything is allocated.
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
		return nil, attest.Errorf(attest.ErrFormat, "client frame of %d bytes is too large (at most %d)", n, attest.MaxEvidenceSize)
	}
	evidence := make([]byte, n)
	_, err := io.ReadFull(r, evidence)
	return evidence, err
}
