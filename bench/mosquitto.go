package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoMosquitto says that Mosquitto is not installed here.
var ErrNoMosquitto = errors.New("mosquitto is not installed (Debian: apt-get install mosquitto)")

// Mosquitto is a Mosquitto that was started for a measurement: TLS and plain TCP, no persistence, no limits on
// what it queues, and no log.
type Mosquitto struct {
	*Process
	Version string
	TLS     Dialer
	Plain   Dialer
	Address string // of TLS
	config  *tls.Config
}

// TLSOver dials TLS over a network, such as a slow one.
func (m *Mosquitto) TLSOver(net NetDial) Dialer { return net.TLS(m.Address, m.config) }

// StartMosquitto starts Mosquitto with its files in dir. It returns ErrNoMosquitto if there is none.
func StartMosquitto(ctx context.Context, dir string) (*Mosquitto, error) {
	path, err := findMosquitto()
	if err != nil {
		return nil, err
	}
	pool, err := writeCertificate(dir)
	if err != nil {
		return nil, fmt.Errorf("certificate for mosquitto: %w", err)
	}
	plain, err := freeAddr()
	if err != nil {
		return nil, err
	}
	secure, err := freeAddr()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(config, mosquittoConfig(dir, plain, secure), 0o600); err != nil {
		return nil, err
	}
	p, err := StartProcess(nil, path, "-c", config)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(p.WaitListening(ctx, plain), p.WaitListening(ctx, secure)); err != nil {
		p.Stop()
		return nil, err
	}
	m := &Mosquitto{
		Process: p,
		Version: mosquittoVersion(path),
		Plain:   DialTCP(plain),
		Address: secure,
		config:  &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS13},
	}
	m.TLS = m.TLSOver(nil)
	return m, nil
}

// HasMosquitto returns ErrNoMosquitto if there is none.
func HasMosquitto() error {
	_, err := findMosquitto()
	return err
}

// findMosquitto looks where Debian puts daemons, too, which is not in a user's PATH.
func findMosquitto() (string, error) {
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoMosquitto
}

// mosquittoVersion is the first line of its help, which it prints with an exit status that is not 0.
func mosquittoVersion(path string) string {
	out, _ := exec.Command(path, "-h").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// mosquittoConfig sets nothing that slows Mosquitto down: Nagle's algorithm is off, queues are not limited. As
// root it would become another user and no longer read its key, hence the user line.
func mosquittoConfig(dir, plain, secure string) []byte {
	lines := []string{
		"per_listener_settings false",
		"allow_anonymous true",
		"persistence false",
		"log_type none",
		"log_dest none",
		"max_queued_messages 0",
		"max_inflight_messages 0",
		"set_tcp_nodelay true",
		"user root",
		"listener " + port(plain) + " 127.0.0.1",
		"listener " + port(secure) + " 127.0.0.1",
		"certfile " + filepath.Join(dir, "cert.pem"),
		"keyfile " + filepath.Join(dir, "key.pem"),
		"tls_version tlsv1.3",
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// freeAddr is an address on this machine on which nothing listens. Something else may take it before it is used;
// then the broker does not start and says why.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// writeCertificate writes cert.pem and key.pem for localhost to dir, of the same kind (ECDSA P-256) as VouchMQ's,
// and returns a pool that trusts them.
func writeCertificate(dir string) (*x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "localhost"},
		DNSNames:              []string{"localhost"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600),
	)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool, err
}
