package cafolder

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
)

const (
	ledgerVersion = 1
	maxChallenges = 1000
)

// Ledger is what the owner remembers. Times are UTC, with seconds.
type Ledger struct {
	Version    int         `json:"version"` // 1
	Service    string      `json:"service"`
	Addresses  []string    `json:"addresses"`
	Names      []string    `json:"names"`
	Serial     uint64      `json:"serial"`            // of the last bundle, 0 before the first
	ECH        []byte      `json:"ech,omitempty"`     // ECHConfigList of the last bundle
	Instances  []string    `json:"instances"`         // enrolled hardware
	Challenges []Challenge `json:"challenges"`        // that no request has answered
	Issued     []Record    `json:"issued"`            // oldest first
	NextCA     []byte      `json:"next_ca,omitempty"` // DER

	Clients     []ClientRecord `json:"clients,omitempty"`     // oldest first
	Revocations uint64         `json:"revocations,omitempty"` // number of the last revocation list, 0 before the first
}

// ClientRecord is a certificate that was issued to a client.
type ClientRecord struct {
	Name     string     `json:"name"`
	Serial   string     `json:"serial"` // hexadecimal, and name of the file
	At       time.Time  `json:"at"`
	NotAfter time.Time  `json:"not_after"`
	Revoked  *time.Time `json:"revoked,omitempty"`
}

// Challenge is a nonce that was given out.
type Challenge struct {
	Nonce string    `json:"nonce"`
	Until time.Time `json:"until"`
}

// Record is a certificate that was issued.
type Record struct {
	Serial   string    `json:"serial"` // hexadecimal, and name of the file
	At       time.Time `json:"at"`
	NotAfter time.Time `json:"not_after"`
	Nonce    string    `json:"nonce"`   // that the request answered
	Renewal  string    `json:"renewal"` // nonce that a request for its renewal answers
	Renewed  bool      `json:"renewed"`
	Hardware string    `json:"hardware"` // as the evidence said; may be empty
	Module   string    `json:"module"`
	Config   string    `json:"config"`
}

// forgetChallenges drops what nobody may answer any more.
func (l *Ledger) forgetChallenges(now time.Time) {
	var left []Challenge
	for _, c := range l.Challenges {
		if now.Before(c.Until) {
			left = append(left, c)
		}
	}
	l.Challenges = left
}

func (l *Ledger) encode() ([]byte, error) {
	b, err := json.MarshalIndent(l, "", "  ")
	return append(b, '\n'), err
}

func parseLedger(data []byte) (l Ledger, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return l, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return l, errors.New("something follows the ledger")
	}
	if l.Version != ledgerVersion {
		return l, fmt.Errorf("ledger is of version %d, and this program knows version %d", l.Version, ledgerVersion)
	}
	return l, l.check()
}

func (l *Ledger) check() error {
	if err := atls.CheckServiceName(l.Service); err != nil {
		return errors.New(err.Error()) // it is nobody's evidence that is wrong
	}
	if _, _, err := l.names(); err != nil {
		return err
	}
	_, err := l.nextCA()
	return err
}

func (l *Ledger) nextCA() (*x509.Certificate, error) { return ParseCA(l.NextCA) }

// ParseCA reads the certificate of an owner CA (DER), nil if there is none.
func ParseCA(der []byte) (*x509.Certificate, error) {
	if der == nil {
		return nil, nil
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("next owner CA: %w", err)
	}
	return c, owner.CheckCA(c)
}

// names returns by which names ordinary TLS clients know the broker: the hosts of its addresses, and what the owner adds.
func (l *Ledger) names() (names []string, ips []net.IP, err error) {
	all := slices.Clone(l.Names)
	for _, address := range l.Addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "" {
			return nil, nil, fmt.Errorf("address %q is not host:port", address)
		}
		all = append(all, host)
	}
	for _, name := range union(all, nil) {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
			continue
		}
		if err := atls.CheckServiceName(name); err != nil {
			return nil, nil, fmt.Errorf("name %q of the broker: %v", name, err)
		}
		if name != l.Service {
			names = append(names, name)
		}
	}
	return names, ips, nil
}
