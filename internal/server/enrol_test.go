package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/enrolment"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const enrolledFile = `
service: plant.example
owner: owner-ca.pem
policy: policy.yaml
tee: sim
engine: native
listeners:
  - { name: plain, kind: tcp, address: "127.0.0.1:0" }
  - { name: secure, kind: attested, address: "127.0.0.1:0" }
`

// ownedRig is a broker whose owner is elsewhere.
type ownedRig struct {
	*keptRig
	ca  *owner.CA
	now atomic.Int64 // of the keeper's clock, as Unix time
}

func newOwned(t *testing.T) *ownedRig {
	t.Helper()
	ca, err := owner.New("Owner", time.Now(), 10_000*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r := &ownedRig{keptRig: &keptRig{rig: &rig{log: &Buffer{}}, t: t, dir: t.TempDir(), text: enrolledFile, level: new(slog.LevelVar)}, ca: ca}
	r.now.Store(time.Now().Unix())
	r.write("vouchmq.yaml", enrolledFile)
	r.write("owner-ca.pem", string(ca.CertificatePEM()))
	r.write("policy.yaml", "version: 1\nrules: [{ who: { anonymous: true }, publish: ['#'], subscribe: ['#'] }]\n")
	return r
}

// enrolling is the broker while it asks for a certificate.
func (r *ownedRig) enrolling() *server.Enrolling {
	r.t.Helper()
	s, err := readSettings(filepath.Join(r.dir, "vouchmq.yaml"))
	if err != nil {
		r.t.Fatal(err)
	}
	e, err := server.PrepareEnrolment(s, server.Opening{Now: time.Now(), Dir: r.dir})
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// issue is what the owner does with a request.
func (r *ownedRig) issue(q *owner.Request) []byte {
	r.t.Helper()
	leaf, err := r.ca.IssueServer(q.CSR.PublicKey, owner.Server{Service: q.Service, PublicName: q.PublicName()}, time.Now(), 99*time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	return owner.EncodeCertificate(leaf.Raw)
}

func (r *ownedRig) enrol() {
	r.t.Helper()
	nonce, err := owner.NewNonce(rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	e := r.enrolling()
	q, err := e.Request(context.Background(), nonce)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := e.Install(r.issue(q)); err != nil {
		r.t.Fatal(err)
	}
}

// dial connects with a bundle as the owner would sign it now. It returns the serial number of the certificate, too.
func (r *ownedRig) dial() (net.Conn, string) {
	r.t.Helper()
	id := r.Identity()
	p, err := policy.New([]policy.Identity{policy.Simulated("broker", id.Module, id.Config, r.state.Sim.Digest())}, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	list := r.Server.Config().ECHKeys
	b := &client.Bundle{Service: "plant.example", OwnerCA: r.ca.Certificate(), ECHConfigList: atls.ECHConfigList(list[0]), Policy: p, IssuedAt: time.Now()}
	conn, _, err := client.Dial(context.Background(), b, client.Options{Address: r.Addr("secure").String()})
	if err != nil {
		r.t.Fatal(err)
	}
	return conn, conn.Peer().Certificates[0].SerialNumber.String()
}

func TestNotEnrolled(t *testing.T) {
	r := newOwned(t)
	open := func() (*server.Opened, error) {
		return openFile(filepath.Join(r.dir, "vouchmq.yaml"), server.Opening{Now: time.Now()})
	}
	if _, err := open(); !errors.Is(err, server.ErrNotEnrolled) {
		t.Fatal(err)
	}
	r.enrol()
	opened, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if want := attest.Sum(r.ca.Certificate().RawSubjectPublicKeyInfo); opened.Config.OwnerKey != want {
		t.Error("evidence would claim another owner")
	}
	for _, name := range []string{server.OwnerKeyFile, server.OwnerCAFile, server.BrokerKeyFile} {
		if _, err := os.Stat(opened.State.Path(name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if id, err := opened.Config.Identity(); err != nil || id != r.enrolling().Identity {
		t.Errorf("the broker would claim %v, and its request %v: %v", id, r.enrolling().Identity, err)
	}
	r.write("owner-ca.pem", "nonsense")
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "owner: ") {
		t.Error(err)
	}
}

// The keeper asks for a renewal when it is time. While the new certificate comes into force a stream at QoS 1 goes on, and
// nobody is disconnected.
func TestRenewalDisturbsNobody(t *testing.T) {
	r := newOwned(t)
	r.enrol()
	r.run(server.Native, func(c *server.KeeperConfig) {
		c.Debounce, c.Poll = 10*time.Millisecond, 20*time.Millisecond
		c.Now = func() time.Time { return time.Unix(r.now.Load(), 0) }
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.keeper.Run(ctx) }()
	defer func() { cancel(); <-done }()

	conn, before := r.dial()
	end := stream(t, r.rig, conn)

	request := r.state.Enrolment.Path(enrolment.RequestFile)
	if _, err := os.Stat(request); err == nil {
		t.Error("a request was made before it was time")
	}
	r.now.Add(70 * 3600)
	Await(t, "the request", func() bool { _, err := os.Stat(request); return err == nil })
	Await(t, "the warning", func() bool { return strings.Contains(r.log.String(), "CERTIFICATE IS DUE FOR RENEWAL") })
	text, err := os.ReadFile(request)
	if err != nil {
		t.Fatal(err)
	}
	q, err := owner.ParseRequest(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Replace(r.state.Enrolment.Path(enrolment.CertificateFile), r.issue(q), 0o600); err != nil { // the keeper complains of a half
		t.Fatal(err)
	}
	Await(t, "the new certificate", func() bool { return strings.Contains(r.log.String(), "changed=[certificate]") })
	if keys := r.Server.Config().ECHKeys; len(keys) != 2 || !bytes.Equal(atls.ECHConfigList(keys[0]), q.ECHConfigList) {
		t.Errorf("%d ECH keys, and the newest may not be that of the request", len(keys))
	}
	again, after := r.dial()
	again.Close()
	if after == before {
		t.Error("the old certificate is shown")
	}
	end()
	if strings.Contains(r.log.String(), "client disconnected") || strings.Contains(r.log.String(), "NOT USED") {
		t.Error("somebody was disconnected, or the certificate complained of")
	}
}

// A certificate that is of no use changes nothing, and is complained of once.
func TestBadCertificateIsLeft(t *testing.T) {
	r := newOwned(t)
	r.enrol()
	r.run(server.Native, nil)
	conn, before := r.dial()
	conn.Close()
	name := r.state.Enrolment.Path(enrolment.CertificateFile)
	if err := os.WriteFile(name, r.ca.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.keeper.Look(context.Background())
	}
	if n := strings.Count(r.log.String(), "CHANGED CERTIFICATE FILES ARE NOT USED"); n != 1 {
		t.Errorf("complained of %d times", n)
	}
	conn, after := r.dial()
	conn.Close()
	if after != before {
		t.Error("another certificate is shown")
	}
}
