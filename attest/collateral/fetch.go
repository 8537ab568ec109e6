package collateral

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/attest/internal/dcap"
)

// Addresses of Intel's services.
const (
	IntelPCS     = "https://api.trustedservices.intel.com"
	IntelRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
)

// Doer makes HTTP requests: *http.Client.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Bounds of a request.
const (
	fetchTimeout = 30 * time.Second
	maxHeader    = 64 << 10 // bytes; a chain of certificates has less than 5,000
)

// HTTP returns what a Client makes requests with. It follows no redirection: who asks a service inside of a network for documents is not to be
// led on by its answer to another.
func HTTP() *http.Client {
	client := &http.Client{Timeout: fetchTimeout, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		return fmt.Errorf("it leads on to %s, which is not followed: name the right address yourself", r.URL.Redacted())
	}}
	if transport, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = transport.Clone()
		transport.MaxResponseHeaderBytes = maxHeader
		client.Transport = transport
	}
	return client
}

// Client fetches documents from Intel's service (PCS, version 4), or from a cache that speaks as it does (PCCS). It verifies
// nothing: that is for the store.
type Client struct {
	HTTP    Doer
	PCS     string // address without path; "" is IntelPCS
	RootCRL string // address; "" is IntelRootCRL
}

// Update says which assessment to fetch while Intel publishes two: from the announcement of a TCB recovery until some months later.
type Update string

// The values.
const (
	Standard Update = ""      // the one in force
	Early    Update = "early" // the one announced
)

// Fetch fetches one document.
func (c *Client) Fetch(ctx context.Context, n Name, u Update) (Document, error) {
	address, header := c.address(n, u)
	body, chain, err := c.get(ctx, address, header)
	if err != nil {
		return Document{}, fmt.Errorf("fetch %s: %w", n, err)
	}
	return Document{Name: n, Body: body, Chain: chain}, nil
}

// address returns where a document is, and the header that has its issuers' chain.
func (c *Client) address(n Name, u Update) (address, header string) {
	base := c.PCS
	if base == "" {
		base = IntelPCS
	}
	tee := strings.ToLower(n.TEE.String())
	query := url.Values{}
	switch n.Kind {
	case TCBInfo:
		query.Set("fmspc", n.FMSPC.String())
		address, header = base+"/"+tee+"/certification/v4/tcb", "TCB-Info-Issuer-Chain"
	case QEIdentity:
		address, header = base+"/"+tee+"/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain"
	case PCKCRL:
		query.Set("ca", string(n.CA))
		query.Set("encoding", "der")
		return base + "/sgx/certification/v4/pckcrl?" + query.Encode(), "SGX-PCK-CRL-Issuer-Chain"
	default:
		if c.RootCRL != "" {
			return c.RootCRL, ""
		}
		return IntelRootCRL, ""
	}
	if u != Standard {
		query.Set("update", string(u))
	}
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return address, header
}

// get fetches an answer and the chain in a header of it, which is percent-encoded PEM.
func (c *Client) get(ctx context.Context, address, header string) (body, chain []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxSize+1))
	switch {
	case err != nil:
		return nil, nil, err
	case response.StatusCode == http.StatusNotFound:
		return nil, nil, fmt.Errorf("%s does not know it (%s)", request.URL.Host, response.Status)
	case response.StatusCode != http.StatusOK:
		return nil, nil, fmt.Errorf("%s answers %s", request.URL.Host, response.Status)
	case len(body) > maxSize:
		return nil, nil, fmt.Errorf("%s sends more than %d bytes", request.URL.Host, maxSize)
	case header == "":
		return body, nil, nil
	}
	text, err := url.PathUnescape(response.Header.Get(header))
	if err != nil || text == "" {
		return nil, nil, fmt.Errorf("%s sends no %s", request.URL.Host, header)
	}
	return body, []byte(text), nil
}

// Fetch fetches all documents of a need and keeps them. Those that could be had are kept even if others could not.
func (s *Store) Fetch(ctx context.Context, c *Client, n Need, now time.Time) error {
	return s.fetch(ctx, c, Names(n), now)
}

func (s *Store) fetch(ctx context.Context, c *Client, names []Name, now time.Time) error {
	var failures []error
	chain := s.anyChain()
	for _, name := range names {
		d, err := c.Fetch(ctx, name, Standard)
		if name.Kind == RootCRL {
			d.Chain = chain // the service sends none; any will do that ends in the root
		} else if err == nil {
			chain = d.Chain
		}
		if err == nil {
			err = s.Put(d, now)
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// anyChain returns the chain that came with the root's revocation list last time, or else that of another document, nil if there is none.
func (s *Store) anyChain() []byte {
	others, _ := s.names()
	for _, name := range append([]Name{{Kind: RootCRL}}, others...) {
		if chain, err := s.readFile(name.chainFile()); err == nil {
			return chain
		}
	}
	return nil
}

// Refresh fetches anew whatever in the store expires within ahead of now, or cannot be used. It returns what was fetched.
func (s *Store) Refresh(ctx context.Context, c *Client, now time.Time, ahead time.Duration) ([]Name, error) {
	list, err := s.List(now)
	if err != nil {
		return nil, err
	}
	var due, root []Name
	for _, e := range list {
		switch {
		case e.Err == nil && e.Expires.After(now.Add(ahead)):
		case e.Name.Kind == RootCRL:
			root = append(root, e.Name) // last, since it takes the chain of another
		default:
			due = append(due, e.Name)
		}
	}
	due = append(due, root...)
	return due, s.fetch(ctx, c, due, now)
}

// Announcement is an assessment that Intel has published and not yet put in force: a TCB recovery. Platforms that do not take its
// updates will count as out of date then.
type Announcement struct {
	Current uint32 // evaluation number in force
	Next    uint32 // evaluation number announced
	Issued  time.Time
}

// Announced asks whether Intel has announced a TCB recovery for a kind of platform; nil if not.
func (s *Store) Announced(ctx context.Context, c *Client, n Need) (*Announcement, error) {
	name := Name{Kind: TCBInfo, TEE: n.TEE, FMSPC: n.FMSPC}
	s.mu.Lock()
	current := s.load(name)
	s.mu.Unlock()
	if current.err != nil {
		return nil, current.err
	}
	d, err := c.Fetch(ctx, name, Early)
	if err != nil {
		return nil, err
	}
	early, err := d.open(s.root)
	if err != nil {
		return nil, err
	}
	if early.evaluation() <= current.evaluation() {
		return nil, nil
	}
	return &Announcement{Current: current.evaluation(), Next: early.evaluation(), Issued: early.tcbInfo.Issued}, nil
}

var _ dcap.Source = (*Store)(nil)
