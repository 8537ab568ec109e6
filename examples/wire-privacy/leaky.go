package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/vouchmq/vouchmq/atls/owner"
)

// What is here leaks on purpose, so that run.py can be seen to find it.

// leakyName sends the nonce in a server name that is in clear, as some protocols do. The broker refuses that.
func (p *probe) leakyName(ctx context.Context) error {
	p.noteNonce([32]byte{4, 5, 6})
	config := p.config()
	config.ServerName, config.EncryptedClientHelloConfigList = label(p.nonce)+".n1."+p.bundle.Service, nil
	conn, err := p.dialTLS(ctx, p.bundle.Addresses[0], config)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

// leakyProtocol offers an ALPN protocol of its own. The broker does not know it.
func (p *probe) leakyProtocol(ctx context.Context) error {
	p.noteNonce([32]byte{7, 8, 9})
	config := p.config()
	config.ServerName, config.NextProtos = label(p.nonce)+".n1."+p.bundle.Service, []string{"attested-mqtt/1"}
	if conn, err := p.dialTLS(ctx, p.bundle.Addresses[0], config); err == nil {
		_ = conn.Close()
	}
	return nil
}

// evidenceSize is about that of a platform with its certificates.
const evidenceSize = 4000

// leakyServer connects to a server of its own, which has the broker's keys and leaks in one way only: the evidence is in
// the certificate, or in a ticket without padding.
func (p *probe) leakyServer(ctx context.Context) error {
	config, err := p.serverConfig()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", p.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() { served <- serveOnce(listener, config) }()
	p.noteNonce([32]byte{10, 11, 12})
	clientConfig := p.config()
	clientConfig.ServerName = label(p.nonce) + ".n1." + p.bundle.Service
	conn, err := p.dialTLS(ctx, listener.Addr().String(), clientConfig)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, frameSize)); err != nil {
		return err
	}
	if err := exchange(conn); err != nil {
		return err
	}
	return <-served
}

const frameSize = 4 // of a client without evidence

func serveOnce(listener net.Listener, config *tls.Config) error {
	raw, err := listener.Accept()
	if err != nil {
		return err
	}
	conn := tls.Server(raw, config)
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, frameSize+len(connect))); err != nil {
		return err
	}
	if _, err = conn.Write(connack); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, len(disconnect)))
	return err
}

// serverConfig is that of a server with the broker's keys, from the folder of a development broker.
func (p *probe) serverConfig() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(p.state, "broker.pem"), filepath.Join(p.state, "broker.key"))
	if err != nil {
		return nil, err
	}
	size := evidenceSize
	if p.kind == "leaky-certificate" {
		size = 10240 // the ticket is as it should be
		if certificate.Certificate[0], err = p.withEvidence(certificate.Leaf); err != nil {
			return nil, err
		}
	}
	ech, err := os.ReadFile(filepath.Join(p.state, "ech.key"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(ech)
	if block == nil || len(block.Bytes) < 32 {
		return nil, errors.New("ech.key is none")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{certificate}, NextProtos: []string{"mqtt"},
		EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{{PrivateKey: block.Bytes[:32], Config: block.Bytes[32:]}},
		WrapSession:              func(tls.ConnectionState, *tls.SessionState) ([]byte, error) { return make([]byte, size), nil },
	}, nil
}

// withEvidence issues the broker's certificate anew, with evidence in it (id-pe-cmw, RFC 9999).
func (p *probe) withEvidence(leaf *x509.Certificate) ([]byte, error) {
	key, err := os.ReadFile(filepath.Join(p.state, "owner-ca.key"))
	if err != nil {
		return nil, err
	}
	ca, err := owner.Parse(owner.EncodeCertificate(p.bundle.OwnerCA.Raw), key)
	if err != nil {
		return nil, err
	}
	value, err := asn1.Marshal(make([]byte, evidenceSize))
	if err != nil {
		return nil, err
	}
	leaf.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}, Value: value}}
	return x509.CreateCertificate(rand.Reader, leaf, ca.Certificate(), leaf.PublicKey, ca.Key())
}
