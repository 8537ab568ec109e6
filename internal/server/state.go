package server

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
	"github.com/vouchmq/vouchmq/internal/server/enrolment"
)

// Names of files in a state folder.
const (
	OwnerCAFile    = "owner-ca.pem" // certificate: what ordinary TLS clients give as --cafile
	OwnerKeyFile   = "owner-ca.key"
	BrokerCertFile = "broker.pem"
	BrokerKeyFile  = "broker.key"
	ECHKeyFile     = "ech.key"
	SimKeyFile     = "sim.key"
	PolicyFile     = "policy.yaml"
)

// Validity of what is made.
const (
	caValidity   = 10 * 365 * 24 * time.Hour
	leafValidity = 397 * 24 * time.Hour
	renewBefore  = 30 * 24 * time.Hour // a leaf that expires sooner is issued anew
)

// State is a folder with the keys and certificates of a broker. Its owner may be elsewhere, see package enrolment. Else the
// folder has an owner CA of its own: for development, since whoever reads it can pretend to be this broker.
type State struct {
	Dir         string
	Service     string
	PublicName  string
	Owner       *owner.CA // nil if the owner is elsewhere
	Certificate tls.Certificate
	ECHKeys     []*atls.ECHKey // newest first
	Sim         *sim.Key
	Enrolment   *enrolment.Folder // nil if the folder has an owner CA of its own
	Made        []string          // names of files that were missing or expired, and have been made
}

// OpenState reads a state folder and makes what is missing in it, with mode 0600.
// A certificate that expires soon, or no longer fits the owner or the service, is issued anew.
//
// The public name is the one that observers of attested connections see; the service is hidden from them.
func OpenState(dir, service, publicName string, now time.Time) (*State, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	s := &State{Dir: dir, Service: service, PublicName: publicName}
	for _, step := range []func(time.Time) error{s.openOwner, s.openECH, s.openSim, s.openCertificate} {
		if err := step(now); err != nil {
			return nil, fmt.Errorf("state folder %s: %w", dir, err)
		}
	}
	return s, nil
}

// OwnerCertificate returns the certificate of the owner CA.
func (s *State) OwnerCertificate() *x509.Certificate {
	if s.Enrolment != nil {
		return s.Enrolment.Owner
	}
	return s.Owner.Certificate()
}

// Path returns the path of a file in the folder.
func (s *State) Path(name string) string { return filepath.Join(s.Dir, name) }

// read returns the content of a file, nil if there is none.
func (s *State) read(name string) ([]byte, error) {
	b, err := os.ReadFile(s.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// write makes a file anew, whole or not at all.
func (s *State) write(name string, content []byte) error {
	if err := atomicfile.Replace(s.Path(name), content, atomicfile.Secret); err != nil {
		return err
	}
	s.Made = append(s.Made, name)
	return nil
}

func (s *State) openOwner(now time.Time) error {
	certificate, err := s.read(OwnerCAFile)
	if err != nil {
		return err
	}
	key, err := s.read(OwnerKeyFile)
	if err != nil {
		return err
	}
	if certificate == nil && key == nil {
		return s.makeOwner(now)
	}
	if s.Owner, err = owner.Parse(certificate, key); err != nil {
		return fmt.Errorf("%s and %s: %w", OwnerCAFile, OwnerKeyFile, err)
	}
	return nil
}

func (s *State) makeOwner(now time.Time) (err error) {
	if s.Owner, err = owner.New("VouchMQ owner of "+s.Service, now, caValidity); err != nil {
		return err
	}
	key, err := s.Owner.KeyPEM()
	if err != nil {
		return err
	}
	return errors.Join(s.write(OwnerKeyFile, key), s.write(OwnerCAFile, s.Owner.CertificatePEM()))
}

func (s *State) openECH(time.Time) error {
	b, err := s.read(ECHKeyFile)
	if err != nil {
		return err
	}
	if b != nil {
		key, err := atls.ParseECHKey(b)
		if err != nil {
			return fmt.Errorf("%s: %w", ECHKeyFile, err)
		}
		if s.ECHKeys = []*atls.ECHKey{key}; key.PublicName() == s.PublicName {
			return nil
		}
	}
	key, err := atls.NewECHKey(s.PublicName, 1)
	if err != nil {
		return err
	}
	s.ECHKeys = []*atls.ECHKey{key}
	return s.write(ECHKeyFile, key.Marshal())
}

func (s *State) openSim(time.Time) error {
	b, err := s.read(SimKeyFile)
	if err != nil {
		return err
	}
	if b != nil {
		if s.Sim, err = sim.ParseKey(b); err != nil {
			return fmt.Errorf("%s: %w", SimKeyFile, err)
		}
		return nil
	}
	if s.Sim, err = sim.NewKey(); err != nil {
		return err
	}
	if b, err = s.Sim.Marshal(); err != nil {
		return err
	}
	return s.write(SimKeyFile, b)
}

func (s *State) openCertificate(now time.Time) error {
	certificate, err := s.read(BrokerCertFile)
	if err != nil {
		return err
	}
	key, err := s.read(BrokerKeyFile)
	if err != nil {
		return err
	}
	if certificate == nil || key == nil {
		return s.makeCertificate(now)
	}
	leaf, err := owner.ParseCertificate(certificate)
	if err != nil {
		return fmt.Errorf("%s: %w", BrokerCertFile, err)
	}
	private, err := owner.ParseKey(key)
	if err != nil {
		return fmt.Errorf("%s: %w", BrokerKeyFile, err)
	}
	if s.stale(leaf, private, now) {
		return s.makeCertificate(now)
	}
	s.Certificate = owner.TLSCertificate(leaf, private)
	return nil
}

// stale says whether a certificate is of no use: expiring, for another key or service, or from another owner.
func (s *State) stale(leaf *x509.Certificate, key *ecdsa.PrivateKey, now time.Time) bool {
	return now.Add(renewBefore).After(leaf.NotAfter) || !key.PublicKey.Equal(leaf.PublicKey) ||
		leaf.VerifyHostname(s.Service) != nil || leaf.VerifyHostname(s.PublicName) != nil || leaf.CheckSignatureFrom(s.Owner.Certificate()) != nil
}

func (s *State) makeCertificate(now time.Time) error {
	key, err := owner.NewKey()
	if err != nil {
		return err
	}
	names := []string{"localhost"}
	if host, err := os.Hostname(); err == nil && atls.CheckServiceName(host) == nil {
		names = append(names, host)
	}
	leaf, err := s.Owner.IssueServer(&key.PublicKey, owner.Server{
		Service: s.Service, PublicName: s.PublicName, Names: names,
		IPs: []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback},
	}, now, leafValidity)
	if err != nil {
		return err
	}
	pem, err := owner.EncodeKey(key)
	if err != nil {
		return err
	}
	s.Certificate = owner.TLSCertificate(leaf, key)
	return errors.Join(s.write(BrokerKeyFile, pem), s.write(BrokerCertFile, owner.EncodeCertificate(leaf.Raw)))
}
