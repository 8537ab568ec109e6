package azure

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Metadata is Azure's metadata service, which each VM reaches at a link-local address. What it says is verified by whoever verifies the evidence.
type Metadata struct {
	base   string
	client *http.Client
}

// metadataAddress is that of the service (Azure Instance Metadata Service).
const metadataAddress = "http://169.254.169.254"

// Bounds of an answer.
const (
	maxAnswer     = 64 << 10 // bytes
	answerTimeout = 10 * time.Second
)

// NewMetadata returns the service. It is asked directly: a proxy of the environment is another machine.
func NewMetadata() *Metadata {
	return newMetadata(metadataAddress)
}

func newMetadata(base string) *Metadata {
	return &Metadata{base: base, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: answerTimeout}}
}

// VCEK returns the certificate of the chip's key, DER.
func (m *Metadata) VCEK(ctx context.Context) ([]byte, error) {
	var answer struct {
		VCEK string `json:"vcekCert"` // PEM
	}
	if err := m.ask(ctx, http.MethodGet, "/metadata/THIM/amd/certification", nil, &answer); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(answer.VCEK))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the metadata service gave no certificate")
	}
	return block.Bytes, nil
}

// Quote has a TD report made a quote.
func (m *Metadata) Quote(ctx context.Context, tdReport []byte) ([]byte, error) {
	asked, err := json.Marshal(map[string]string{"report": base64.RawURLEncoding.EncodeToString(tdReport)})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Quote string `json:"quote"`
	}
	if err := m.ask(ctx, http.MethodPost, "/acc/tdquote", asked, &answer); err != nil {
		return nil, err
	}
	quote, err := base64.RawURLEncoding.DecodeString(answer.Quote)
	if err != nil || len(quote) == 0 {
		return nil, errors.New("the metadata service gave no quote")
	}
	return quote, nil
}

func (m *Metadata) ask(ctx context.Context, method, path string, body []byte, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, m.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Metadata", "true")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := m.client.Do(r)
	if err != nil {
		return fmt.Errorf("ask the metadata service: %w", err)
	}
	defer func() { _ = answer.Body.Close() }() // it has been read
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the metadata service answers %s with %s", path, answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("the metadata service answers %s with what cannot be read: %w", path, err)
	}
	return nil
}
