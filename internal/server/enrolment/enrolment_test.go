package enrolment_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/server/enrolment"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const service, public = "plant.example", "mqtt.example"

var (
	now    = time.Unix(1_800_000_000, 0)
	module = attest.Identity{Module: attest.Sum([]byte("module"))}
)

// rig is a folder and its owner.
type rig struct {
	*enrolment.Folder
	ca  *owner.CA
	tee *sim.Attester
}

func newRig(t testing.TB) *rig {
	t.Helper()
	ca := Must(owner.New("Owner", now, 1000*time.Hour))(t)
	return &rig{
		Folder: &enrolment.Folder{Dir: t.TempDir(), Service: service, PublicName: public, Owner: ca.Certificate()},
		ca:     ca, tee: sim.NewAttester(Must(sim.NewKey())(t), attest.Digest{}),
	}
}

func (r *rig) request(t testing.TB) *owner.Request {
	t.Helper()
	return Must(r.Request(context.Background(), r.tee, module, Must(owner.NewNonce(rand.Reader))(t), now))(t)
}

func (r *rig) issue(t testing.TB, q *owner.Request) []byte {
	t.Helper()
	leaf := Must(r.ca.IssueServer(q.CSR.PublicKey, owner.Server{Service: q.Service, PublicName: q.PublicName()}, now, 99*time.Hour))(t)
	return owner.EncodeCertificate(leaf.Raw)
}

func (r *rig) enrol(t testing.TB) *x509.Certificate {
	t.Helper()
	return Must(r.Install(r.issue(t, r.request(t)), now))(t)
}

func (r *rig) exists(name string) bool {
	_, err := os.Stat(r.Path(name))
	return err == nil
}

func TestEnrolment(t *testing.T) {
	r := newRig(t)
	if id, err := r.Open(now); id != nil || !errors.Is(err, enrolment.ErrNotEnrolled) {
		t.Fatal(id, err)
	}
	first, second := r.request(t), r.request(t)
	if !bytes.Equal(first.CSR.RawSubjectPublicKeyInfo, second.CSR.RawSubjectPublicKeyInfo) || !bytes.Equal(first.ECHConfigList, second.ECHConfigList) {
		t.Error("a second request is for other keys than those that wait")
	}
	leaf := Must(r.Install(r.issue(t, second), now))(t)
	id := Must(r.Open(now))(t)
	if !id.Certificate.Leaf.Equal(leaf) || len(id.ECHKeys) != 1 || id.ECHKeys[0].PublicName() != public {
		t.Errorf("%+v", id)
	}
	if r.exists(enrolment.PendingFile) {
		t.Error("keys still wait")
	}
	if info := Must(os.Stat(r.Path(enrolment.IdentityFile)))(t); info.Mode() != 0o600 {
		t.Error(info.Mode())
	}
}

// TestECHKeysOfTwoGenerations: a renewal brings a new key and keeps the one before, and no more.
func TestECHKeysOfTwoGenerations(t *testing.T) {
	r := newRig(t)
	var before []uint8
	for round := range 4 {
		r.enrol(t)
		id := Must(r.Open(now))(t)
		got := []uint8{id.ECHKeys[0].ID()}
		if round > 0 {
			got = append(got, id.ECHKeys[1].ID())
			if len(id.ECHKeys) != 2 || got[1] != before[0] || got[0] == got[1] {
				t.Errorf("round %d: keys %v after %v", round, got, before)
			}
		}
		before = got
	}
}

func TestCertificatesThatAreNotInstalled(t *testing.T) {
	for name, certificate := range map[string]func(t *testing.T, r *rig) []byte{
		"nothing":       func(*testing.T, *rig) []byte { return nil },
		"another owner": func(t *testing.T, r *rig) []byte { other := newRig(t); return other.issue(t, r.request(t)) },
		"another machine": func(t *testing.T, r *rig) []byte {
			r.request(t)
			other := *r
			folder := *r.Folder
			folder.Dir, other.Folder = t.TempDir(), &folder
			return r.issue(t, other.request(t))
		},
		"another service": func(t *testing.T, r *rig) []byte {
			q := r.request(t)
			q.Service = "other.example"
			return r.issue(t, q)
		},
		"no key waits": func(t *testing.T, r *rig) []byte {
			certificate := r.issue(t, r.request(t))
			if err := os.Remove(r.Path(enrolment.PendingFile)); err != nil {
				t.Fatal(err)
			}
			return certificate
		},
		"two of them": func(t *testing.T, r *rig) []byte {
			certificate := r.issue(t, r.request(t))
			return append(certificate, certificate...)
		},
		"not yet valid": func(t *testing.T, r *rig) []byte {
			q := r.request(t)
			leaf := Must(r.ca.IssueServer(q.CSR.PublicKey, owner.Server{Service: service, PublicName: public}, now.Add(9*time.Hour), time.Hour))(t)
			return owner.EncodeCertificate(leaf.Raw)
		},
		"expired": func(t *testing.T, r *rig) []byte {
			q := r.request(t)
			leaf := Must(r.ca.IssueServer(q.CSR.PublicKey, owner.Server{Service: service, PublicName: public}, now.Add(-9*time.Hour), time.Hour))(t)
			return owner.EncodeCertificate(leaf.Raw)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			in := r.enrol(t)
			if _, err := r.Install(certificate(t, r), now); !errors.Is(err, enrolment.ErrCertificate) {
				t.Error(err)
			}
			if id := Must(r.Open(now))(t); !id.Certificate.Leaf.Equal(in) {
				t.Error("the certificate before is not in force any more")
			}
		})
	}
}

// TestDelivered: a certificate that is put into the folder is installed; one that cannot be used changes nothing.
func TestDelivered(t *testing.T) {
	r := newRig(t)
	deliver := func(b []byte) {
		if err := os.WriteFile(r.Path(enrolment.CertificateFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	deliver(r.issue(t, r.request(t)))
	first := Must(r.Open(now))(t)
	if r.exists(enrolment.CertificateFile) {
		t.Error("it was not removed")
	}
	deliver([]byte("nonsense"))
	id, err := r.Open(now)
	if id == nil || !id.Certificate.Leaf.Equal(first.Certificate.Leaf) || !errors.Is(err, enrolment.ErrCertificate) {
		t.Error(id, err)
	}
	if !r.exists(enrolment.CertificateFile) {
		t.Error("it was removed")
	}
}

// TestAnotherOwnerOrName: what does not fit the configuration any more counts as not enrolled.
func TestAnotherOwnerOrName(t *testing.T) {
	for name, change := range map[string]func(r *rig){
		"owner":       func(r *rig) { r.Owner = Must(owner.New("Other", now, time.Hour))(t).Certificate() },
		"service":     func(r *rig) { r.Service = "other.example" },
		"public name": func(r *rig) { r.PublicName = "other.example" },
	} {
		r := newRig(t)
		r.enrol(t)
		change(r)
		if _, err := r.Open(now); !errors.Is(err, enrolment.ErrNotEnrolled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPublicNameOfPendingKeys: keys that wait are made anew if the public name has changed.
func TestPublicNameOfPendingKeys(t *testing.T) {
	r := newRig(t)
	r.request(t)
	r.PublicName = "new.example"
	if got := r.request(t).PublicName(); got != "new.example" {
		t.Error(got)
	}
}

func TestDamagedFiles(t *testing.T) {
	r := newRig(t)
	r.enrol(t)
	r.request(t)
	for _, name := range []string{enrolment.IdentityFile, enrolment.PendingFile} {
		good := Must(os.ReadFile(r.Path(name)))(t)
		for what, bad := range map[string]string{
			"empty": "", "cut short": string(good[:len(good)/2]), "text behind": string(good) + "x",
			"a block too many": string(good) + string(good), "other order": strings.Join(reverse(strings.SplitAfter(string(good), "-----\n")), ""),
		} {
			if err := os.WriteFile(r.Path(name), []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			_, openErr := r.Open(now)
			_, requestErr := r.Request(context.Background(), r.tee, module, owner.Nonce{}, now)
			if name == enrolment.IdentityFile && openErr == nil || name == enrolment.PendingFile && requestErr == nil {
				t.Errorf("%s, %s: no error", name, what)
			}
			if errors.Is(openErr, enrolment.ErrNotEnrolled) {
				t.Errorf("%s, %s: %v: a damaged file must not lead to another enrolment", name, what, openErr)
			}
		}
		if err := os.WriteFile(r.Path(name), good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func reverse(list []string) []string {
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list
}

func TestRenewal(t *testing.T) {
	r := newRig(t)
	leaf := r.enrol(t) // from an hour ago to 99 hours from now
	renewal := enrolment.Renewal{Folder: r.Folder}
	ask := func(at time.Time, id attest.Identity) bool {
		t.Helper()
		return Must(renewal.Ask(context.Background(), leaf, r.tee, id, at))(t)
	}
	due := enrolment.RenewalTime(leaf)
	if got := leaf.NotAfter.Sub(due); got != 100*time.Hour/3 {
		t.Errorf("due %v before the end", got)
	}
	if ask(due.Add(-time.Second), module) || r.exists(enrolment.RequestFile) {
		t.Error("asked before it was time")
	}
	if !ask(due, module) || ask(due.Add(time.Hour), module) {
		t.Error("did not ask once when it was time")
	}
	other := module
	other.Config[0] = 1
	if !ask(due.Add(time.Hour), other) {
		t.Error("did not ask anew after what evidence claims has changed")
	}
	q := Must(owner.ParseRequest(Must(os.ReadFile(r.Path(enrolment.RequestFile)))(t)))(t)
	p := Must(policy.New([]policy.Identity{{
		Name: "broker", Modules: []attest.Digest{module.Module}, Simulated: true, AnyOf: []policy.Requirement{{Platform: attest.Sim}},
	}}, nil))(t)
	appraiser := policy.NewAppraiser(p, attest.NewRegistry(sim.NewVerifier()))
	if v := q.Appraise(context.Background(), appraiser, owner.RenewalNonce(leaf), now); !v.Accepted {
		t.Error(v.Err)
	}
	leaf = Must(r.Install(r.issue(t, q), now))(t)
	if r.exists(enrolment.RequestFile) || ask(due.Add(-time.Hour), other) {
		t.Error("asks on after the renewal")
	}
}

func FuzzInstall(f *testing.F) {
	r := newRig(f)
	f.Add(r.issue(f, r.request(f)))
	f.Fuzz(func(t *testing.T, certificate []byte) {
		leaf, err := r.Install(certificate, now)
		if err == nil && leaf.CheckSignatureFrom(r.Owner) != nil {
			t.Error("installed what the owner has not signed")
		}
	})
}
