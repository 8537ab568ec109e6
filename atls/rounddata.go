package atls

import (
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// The messages of re-attestation are arrays in deterministic CBOR that begin with their number, see ReattestMethod.
const (
	messageRequest   = 1
	messageChallenge = 2
	messageAnswer    = 3
)

// maxMessage bounds a message: evidence and what stands around it. It is less than MQTT lets authentication data be.
const maxMessage = attest.MaxEvidenceSize + 64

type requestWire struct {
	_     struct{} `cbor:",toarray"`
	Kind  uint64
	Seq   uint64
	Nonce []byte
}

type challengeWire struct {
	_        struct{} `cbor:",toarray"`
	Kind     uint64
	Seq      uint64
	Nonce    []byte
	Evidence []byte
}

type answerWire struct {
	_        struct{} `cbor:",toarray"`
	Kind     uint64
	Seq      uint64
	Evidence []byte
}

func encodeRequest(at *moment) ([]byte, error) {
	return encodeMessage(requestWire{Kind: messageRequest, Seq: at.seq, Nonce: at.nonceC[:]})
}

// decodeRequest fills in what a round is bound to from the client's side.
func decodeRequest(data []byte, at *moment) error {
	var w requestWire
	if err := decodeMessage(data, "request", &w); err != nil {
		return err
	}
	if w.Kind != messageRequest || len(w.Nonce) != len(at.nonceC) {
		return attest.Errorf(attest.ErrFormat, "re-attestation: the message is not a request with a nonce of %d bytes", len(at.nonceC))
	}
	at.seq = w.Seq
	copy(at.nonceC[:], w.Nonce)
	return nil
}

func encodeChallenge(at *moment, evidence []byte) ([]byte, error) {
	return encodeMessage(challengeWire{Kind: messageChallenge, Seq: at.seq, Nonce: at.nonceS, Evidence: evidence})
}

// decodeChallenge returns the server's evidence, and fills in its nonce.
func decodeChallenge(data []byte, at *moment) (evidence []byte, err error) {
	var w challengeWire
	if err := decodeMessage(data, "challenge", &w); err != nil {
		return nil, err
	}
	switch {
	case w.Kind != messageChallenge || len(w.Nonce) != attest.NonceSize:
		return nil, attest.Errorf(attest.ErrFormat, "re-attestation: the message is not a challenge with a nonce of %d bytes", attest.NonceSize)
	case w.Seq != at.seq:
		return nil, attest.Errorf(attest.ErrBinding, "the server answers round %d of re-attestation, and this is %d: it is a replay", w.Seq, at.seq)
	case len(w.Evidence) == 0:
		return nil, attest.Errorf(attest.ErrMissing, "the server sent no evidence")
	}
	at.nonceS = w.Nonce
	return w.Evidence, nil
}

func encodeAnswer(seq uint64, evidence []byte) ([]byte, error) {
	if evidence == nil {
		evidence = []byte{} // an empty string, not null
	}
	return encodeMessage(answerWire{Kind: messageAnswer, Seq: seq, Evidence: evidence})
}

// decodeAnswer returns the client's evidence, which may be empty.
func decodeAnswer(data []byte, seq uint64) (evidence []byte, err error) {
	var w answerWire
	if err := decodeMessage(data, "answer", &w); err != nil {
		return nil, err
	}
	switch {
	case w.Kind != messageAnswer || w.Evidence == nil:
		return nil, attest.Errorf(attest.ErrFormat, "re-attestation: the message is not an answer")
	case w.Seq != seq:
		return nil, attest.Errorf(attest.ErrBinding, "client answers round %d of re-attestation, and this is %d: it is a replay", w.Seq, seq)
	}
	return w.Evidence, nil
}

func encodeMessage(w any) ([]byte, error) {
	data, err := dcbor.Encode(w)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "re-attestation: %w", err)
	}
	return data, nil
}

// decodeMessage accepts exactly what encodeMessage writes.
func decodeMessage(data []byte, what string, w any) error {
	if len(data) > maxMessage {
		return attest.Errorf(attest.ErrFormat, "re-attestation: a %s of %d bytes is too large (at most %d)", what, len(data), maxMessage)
	}
	if err := dcbor.Decode(data, w); err != nil {
		return attest.Errorf(attest.ErrFormat, "re-attestation: %s: %w", what, err)
	}
	return nil
}
