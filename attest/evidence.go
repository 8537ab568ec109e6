package attest

import "github.com/vouchmq/vouchmq/internal/dcbor"

// MaxEvidenceSize is the largest encoded evidence in bytes: what fits the larger ticket of attested TLS.
const MaxEvidenceSize = 49152 - 4

// Media types of the parts that are not quotes.
const (
	mediaClaims       = "application/eat-ucs+cbor" // RFC 9782
	mediaBatch        = "application/vnd.vouchmq.batch+cbor"
	mediaEndorsements = "application/vnd.vouchmq.endorsements"
)

// Indicators of a CMW record (RFC 9999): what the value is.
const (
	indEndorsements = 1 << 1
	indEvidence     = 1 << 2
)

// Quote is what the hardware signed, in the platform's own format.
type Quote struct {
	Platform     Platform
	Data         []byte
	Endorsements []byte // certificates and the like that the verifier may lack; nil if none
}

// Evidence is a claims-set, the quote that commits to it, and the proof of how.
type Evidence struct {
	Claims []byte // encoded claims-set
	Quote  Quote
	Blind  [BlindSize]byte
	Proof  Proof
}

type recordWire struct {
	_     struct{} `cbor:",toarray"`
	Type  string
	Value []byte
	Ind   uint64
}

type evidenceWire struct {
	Type         string      `cbor:"__cmwc_t"`
	Claims       recordWire  `cbor:"c"`
	Quote        recordWire  `cbor:"q"`
	Batch        recordWire  `cbor:"m"`
	Endorsements *recordWire `cbor:"e,omitempty"`
}

type batchWire struct {
	N     uint64   `cbor:"n"`
	I     uint64   `cbor:"i"`
	Blind []byte   `cbor:"blind"`
	Path  [][]byte `cbor:"path"`
}

// Encode returns the evidence as a CMW collection (RFC 9999) in deterministic CBOR.
func (e *Evidence) Encode() ([]byte, error) {
	mediaType := e.Quote.Platform.MediaType()
	if mediaType == "" {
		return nil, Errorf(ErrFormat, "evidence: unknown platform %q", e.Quote.Platform)
	}
	batch := batchWire{N: e.Proof.N, I: e.Proof.I, Blind: e.Blind[:], Path: [][]byte{}}
	for _, h := range e.Proof.Path {
		batch.Path = append(batch.Path, h[:])
	}
	batchBytes, err := dcbor.Encode(batch)
	if err != nil {
		return nil, Errorf(ErrFormat, "evidence: %w", err)
	}
	w := evidenceWire{
		Type:   Profile,
		Claims: recordWire{Type: mediaClaims, Value: e.Claims, Ind: indEvidence},
		Quote:  recordWire{Type: mediaType, Value: e.Quote.Data, Ind: indEvidence},
		Batch:  recordWire{Type: mediaBatch, Value: batchBytes, Ind: indEvidence},
	}
	if e.Quote.Endorsements != nil {
		w.Endorsements = &recordWire{Type: mediaEndorsements, Value: e.Quote.Endorsements, Ind: indEndorsements}
	}
	data, err := dcbor.Encode(w)
	if err != nil {
		return nil, Errorf(ErrFormat, "evidence: %w", err)
	}
	if len(data) > MaxEvidenceSize {
		return nil, Errorf(ErrFormat, "evidence of %d bytes is too large (at most %d)", len(data), MaxEvidenceSize)
	}
	return data, nil
}

// DecodeEvidence reads a CMW collection. It accepts exactly what Encode writes; everything else is
// ErrFormat. Nothing is verified.
func DecodeEvidence(data []byte) (*Evidence, error) {
	if len(data) > MaxEvidenceSize {
		return nil, Errorf(ErrFormat, "evidence of %d bytes is too large (at most %d)", len(data), MaxEvidenceSize)
	}
	var w evidenceWire
	if err := dcbor.Decode(data, &w); err != nil {
		return nil, Errorf(ErrFormat, "evidence: %w", err)
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	platform, ok := platformOfMediaType(w.Quote.Type)
	if !ok {
		return nil, Errorf(ErrFormat, "evidence: quote of unknown type %q", abbreviate(w.Quote.Type))
	}
	e := &Evidence{Claims: w.Claims.Value, Quote: Quote{Platform: platform, Data: w.Quote.Value}}
	if w.Endorsements != nil {
		e.Quote.Endorsements = w.Endorsements.Value
	}
	return e, e.decodeBatch(w.Batch.Value)
}

func (w *evidenceWire) check() error {
	if w.Type != Profile {
		return Errorf(ErrFormat, "evidence: collection is of type %q, not %q: the peer speaks another version", abbreviate(w.Type), Profile)
	}
	if w.Claims.Type != mediaClaims || w.Batch.Type != mediaBatch {
		return Errorf(ErrFormat, "evidence: claims or batch proof have an unexpected media type")
	}
	if w.Claims.Ind != indEvidence || w.Quote.Ind != indEvidence || w.Batch.Ind != indEvidence {
		return Errorf(ErrFormat, "evidence: a part is not marked as evidence")
	}
	if e := w.Endorsements; e != nil && (e.Type != mediaEndorsements || e.Ind != indEndorsements || e.Value == nil) {
		return Errorf(ErrFormat, "evidence: endorsements are not marked as such")
	}
	return nil
}

func (e *Evidence) decodeBatch(data []byte) error {
	var w batchWire
	if err := dcbor.Decode(data, &w); err != nil {
		return Errorf(ErrFormat, "batch proof: %w", err)
	}
	if !fill(e.Blind[:], w.Blind) {
		return Errorf(ErrFormat, "batch proof: blind is not %d bytes long", BlindSize)
	}
	if len(w.Path) > maxPath {
		return Errorf(ErrFormat, "batch proof: path of %d hashes is too long (at most %d)", len(w.Path), maxPath)
	}
	e.Proof = Proof{N: w.N, I: w.I, Path: make([]Hash, len(w.Path))}
	for i, h := range w.Path {
		if !fill(e.Proof.Path[i][:], h) {
			return Errorf(ErrFormat, "batch proof: hash %d is not %d bytes long", i, HashSize)
		}
	}
	return nil
}
