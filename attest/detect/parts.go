package detect

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
)

// Parts are evidence of a TPM, or of a confidential VM of Azure, in the parts in which tools write it. Any may be missing.
type Parts struct {
	Message   []byte   // TPMS_ATTEST
	Signature []byte   // TPMT_SIGNATURE, or bare
	PCRs      [][]byte // values, in the order of the message's selection
	Key       []byte   // of the TPM: a public area, or SubjectPublicKeyInfo
	HCL       []byte   // HCL report of Azure
	TDQuote   []byte
}

const (
	hclMagic    = "HCLA"
	quoteMagic  = "\xff\x54\x43\x47\x80\x18" // TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE
	partOfQuote = "\x66attest"               // a key of our own evidence, in CBOR
	partOfHCL   = "\x63hcl"
)

// readTPM knows a TPMS_ATTEST, with its size before it or not.
func readTPM(data []byte) (*Found, error) {
	message := data
	if len(data) > 2 && int(binary.BigEndian.Uint16(data)) == len(data)-2 {
		message = data[2:]
	}
	if !bytes.HasPrefix(message, []byte(quoteMagic)) {
		return nil, nil
	}
	return &Found{Format: "TPM 2.0 quote (TPMS_ATTEST)", Quote: attest.Quote{Platform: attest.TPM, Data: data}, Parts: &Parts{Message: message}}, nil
}

func readHCL(data []byte) (*Found, error) {
	if !bytes.HasPrefix(data, []byte(hclMagic)) {
		return nil, nil
	}
	return &Found{Format: "Azure HCL report", Quote: attest.Quote{Platform: attest.Azure, Data: data}, Parts: &Parts{HCL: data}}, nil
}

// readObject knows what our own attesters for TPMs and for Azure make: a map of CBOR.
func readObject(data []byte) (*Found, error) {
	if data[0]>>5 != 5 || !bytes.Contains(data, []byte(partOfQuote)) || !bytes.Contains(data, []byte(quoteMagic)) {
		return nil, nil
	}
	if bytes.Contains(data, []byte(partOfHCL)) {
		return &Found{Format: "VouchMQ's evidence of a confidential VM of Azure", Quote: attest.Quote{Platform: attest.Azure, Data: data}}, nil
	}
	return &Found{Format: "VouchMQ's evidence of a TPM", Quote: attest.Quote{Platform: attest.TPM, Data: data}}, nil
}

// quoteWire is a quote as the verifiers of Confidential Containers (Trustee) have it in JSON: bytes are hexadecimal digits or base64.
type quoteWire struct {
	Message   string   `json:"message"`
	Signature string   `json:"signature"`
	PCRs      []string `json:"pcrs"`
}

type partsWire struct {
	quoteWire
	Quote   *quoteWire `json:"tpm_quote"`
	HCL     string     `json:"hcl_report"`
	VCEK    string     `json:"vcek"`
	TDQuote string     `json:"td_quote"`
	Key     string     `json:"ak_public"`
}

func readJSON(data []byte) (*Found, error) {
	var w partsWire
	if data = bytes.TrimSpace(data); len(data) == 0 || data[0] != '{' || json.Unmarshal(data, &w) != nil {
		return nil, nil
	}
	if w.Quote == nil {
		w.Quote = &w.quoteWire
	}
	if w.Quote.Message == "" && w.HCL == "" {
		return nil, nil
	}
	return w.found(data)
}

func (w *partsWire) found(data []byte) (*Found, error) {
	p, vcek := &Parts{}, []byte(nil)
	for _, f := range []struct {
		name string
		text string
		to   *[]byte
	}{
		{"message", w.Quote.Message, &p.Message}, {"signature", w.Quote.Signature, &p.Signature}, {"ak_public", w.Key, &p.Key},
		{"hcl_report", w.HCL, &p.HCL}, {"td_quote", w.TDQuote, &p.TDQuote}, {"vcek", w.VCEK, &vcek},
	} {
		var err error
		if *f.to, err = digits(f.text); err != nil {
			return nil, attest.Errorf(attest.ErrFormat, "%s: %w", f.name, err)
		}
	}
	for _, text := range w.Quote.PCRs {
		value, err := digits(text)
		if err != nil {
			return nil, attest.Errorf(attest.ErrFormat, "pcrs: %w", err)
		}
		p.PCRs = append(p.PCRs, value)
	}
	if p.HCL != nil {
		return &Found{Format: "evidence of a confidential VM of Azure, in JSON", Quote: attest.Quote{Platform: attest.Azure, Data: data, Endorsements: vcek}, Parts: p}, nil
	}
	return &Found{Format: "TPM 2.0 quote, in JSON", Quote: attest.Quote{Platform: attest.TPM, Data: data}, Parts: p}, nil
}

// digits reads hexadecimal digits, or base64; nil of no text.
func digits(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	if b, err := hex.DecodeString(text); err == nil {
		return b, nil
	}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := e.DecodeString(strings.TrimRight(text, "=")); err == nil {
			return b, nil
		}
	}
	return nil, errors.New("it is neither in hexadecimal digits nor in base64")
}
