package attest

import (
	"bytes"

	"github.com/vouchmq/vouchmq/internal/dcbor"
)

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

// Names in a collection and in a batch proof.
const (
	nameClaims       = "c"
	nameEndorsements = "e"
	nameBatch        = "m"
	nameQuote        = "q"
	nameType         = "__cmwc_t"

	nameIndex = "i"
	nameSize  = "n"
	namePath  = "path"
	nameBlind = "blind"
)

// aroundParts is room for what stands around the parts of a collection: names, media types and heads.
const aroundParts = 256

func appendRecord(b []byte, name, mediaType string, value []byte, indicator uint64) []byte {
	b = dcbor.AppendArray(dcbor.AppendText(b, name), 3)
	b = dcbor.AppendBytes(dcbor.AppendText(b, mediaType), value)
	return dcbor.AppendUint(b, indicator)
}

// Encode returns the evidence as a CMW collection (RFC 9999) in deterministic CBOR.
func (e *Evidence) Encode() ([]byte, error) {
	mediaType := e.Quote.Platform.MediaType()
	if mediaType == "" {
		return nil, Errorf(ErrFormat, "evidence: unknown platform %q", e.Quote.Platform)
	}
	q, batch := &e.Quote, e.encodeBatch()
	data := make([]byte, 0, len(e.Claims)+len(q.Data)+len(q.Endorsements)+len(batch)+aroundParts)
	parts := 4
	if q.Endorsements != nil {
		parts++
	}
	data = dcbor.AppendMap(data, parts)
	data = appendRecord(data, nameClaims, mediaClaims, e.Claims, indEvidence)
	if q.Endorsements != nil {
		data = appendRecord(data, nameEndorsements, mediaEndorsements, q.Endorsements, indEndorsements)
	}
	data = appendRecord(data, nameBatch, mediaBatch, batch, indEvidence)
	data = appendRecord(data, nameQuote, mediaType, q.Data, indEvidence)
	data = dcbor.AppendText(dcbor.AppendText(data, nameType), Profile)
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
	r := evidenceReader{*dcbor.NewReader(data)}
	parts := r.collection()
	if !r.Done() {
		return nil, Errorf(ErrFormat, "evidence is not the collection of claims, quote, batch proof and endorsements in deterministic CBOR that it should be")
	}
	if err := parts.check(); err != nil {
		return nil, err
	}
	platform, ok := platformOfMediaType(parts.quote.mediaType)
	if !ok {
		return nil, Errorf(ErrFormat, "evidence: quote of unknown type %q", abbreviate(parts.quote.mediaType))
	}
	e := &Evidence{Claims: bytes.Clone(parts.claims.value), Quote: Quote{Platform: platform, Data: bytes.Clone(parts.quote.value)}}
	if parts.endorsements != nil {
		e.Quote.Endorsements = bytes.Clone(parts.endorsements.value)
	}
	return e, e.decodeBatch(parts.batch.value)
}

// evidenceReader reads what Evidence.Encode writes, in the same order.
type evidenceReader struct{ dcbor.Reader }

// record is a record of a CMW collection.
type record struct {
	mediaType string
	value     []byte
	indicator uint64
}

// collection is a CMW collection whose parts nobody has looked at.
type collection struct {
	kind                 string
	claims, quote, batch record
	endorsements         *record // nil if there are none
}

func (r *evidenceReader) collection() (c collection) {
	parts := r.Map()
	c.claims = r.record(nameClaims)
	if r.NextIsName(nameEndorsements) {
		endorsements := r.record(nameEndorsements)
		c.endorsements = &endorsements
		parts--
	}
	r.Count(parts, 4)
	c.batch = r.record(nameBatch)
	c.quote = r.record(nameQuote)
	r.Name(nameType)
	c.kind = r.Text()
	return c
}

func (r *evidenceReader) record(name string) record {
	r.Name(name)
	r.Count(r.Array(), 3)
	return record{mediaType: r.Text(), value: r.Bytes(), indicator: r.Uint()}
}

func (c *collection) check() error {
	if c.kind != Profile {
		return Errorf(ErrFormat, "evidence: collection is of type %q, not %q: the peer speaks another version", abbreviate(c.kind), Profile)
	}
	if c.claims.mediaType != mediaClaims || c.batch.mediaType != mediaBatch {
		return Errorf(ErrFormat, "evidence: claims or batch proof have an unexpected media type")
	}
	if c.claims.indicator != indEvidence || c.quote.indicator != indEvidence || c.batch.indicator != indEvidence {
		return Errorf(ErrFormat, "evidence: a part is not marked as evidence")
	}
	if e := c.endorsements; e != nil && (e.mediaType != mediaEndorsements || e.indicator != indEndorsements || e.value == nil) {
		return Errorf(ErrFormat, "evidence: endorsements are not marked as such")
	}
	return nil
}

// encodeBatch returns the batch proof as deterministic CBOR.
func (e *Evidence) encodeBatch() []byte {
	const aroundHashes = 48 // names, numbers and the blind
	b := dcbor.AppendMap(make([]byte, 0, len(e.Proof.Path)*(HashSize+2)+aroundHashes), 4)
	b = dcbor.AppendUint(dcbor.AppendText(b, nameIndex), e.Proof.I)
	b = dcbor.AppendUint(dcbor.AppendText(b, nameSize), e.Proof.N)
	b = dcbor.AppendArray(dcbor.AppendText(b, namePath), len(e.Proof.Path))
	for i := range e.Proof.Path {
		b = dcbor.AppendBytes(b, e.Proof.Path[i][:])
	}
	return dcbor.AppendBytes(dcbor.AppendText(b, nameBlind), e.Blind[:])
}

func (e *Evidence) decodeBatch(data []byte) error {
	r := dcbor.NewReader(data)
	r.Count(r.Map(), 4)
	r.Name(nameIndex)
	e.Proof.I = r.Uint()
	r.Name(nameSize)
	e.Proof.N = r.Uint()
	r.Name(namePath)
	n := r.Array()
	if n > maxPath {
		return Errorf(ErrFormat, "batch proof: path of %d hashes is too long (at most %d)", n, maxPath)
	}
	e.Proof.Path = make([]Hash, n)
	for i := range e.Proof.Path {
		r.Fill(e.Proof.Path[i][:])
	}
	r.Name(nameBlind)
	r.Fill(e.Blind[:])
	if !r.Done() {
		return Errorf(ErrFormat, "batch proof is not one in deterministic CBOR, with hashes of %d bytes and a blind of %d", HashSize, BlindSize)
	}
	return nil
}
