package cafolder_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/cafolder"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const service = "plant.example"

var (
	now    = time.Unix(1_800_000_000, 0).UTC()
	module = attest.Identity{Module: attest.Sum([]byte("module"))}
)

// rig is an owner's folder, and a machine whose requests come to it.
type rig struct {
	*cafolder.Folder
	tee    *sim.Attester
	policy *policy.Policy
}

func newRig(t *testing.T) *rig {
	t.Helper()
	founding := cafolder.Founding{Service: service, Addresses: []string{"broker.example:8883", "192.0.2.1:8883"}, Validity: 1000 * time.Hour}
	return &rig{
		Folder: Must(cafolder.Init(filepath.Join(t.TempDir(), "ca"), founding, now))(t), tee: newTEE(t),
		policy: Must(policy.New([]policy.Identity{{
			Name: "broker", Modules: []attest.Digest{module.Module}, Simulated: true, AnyOf: []policy.Requirement{{Platform: attest.Sim}},
		}}, nil))(t),
	}
}

func newTEE(t *testing.T) *sim.Attester {
	return sim.NewAttester(Must(sim.NewKey())(t), attest.Digest{})
}

func (r *rig) challenge(t *testing.T) owner.Nonce {
	t.Helper()
	return Must(r.Challenge(rand.Reader, now, now.Add(time.Hour)))(t)
}

func (r *rig) request(t *testing.T, nonce owner.Nonce) *owner.Request {
	t.Helper()
	return r.requestFor(t, service, nonce)
}

func (r *rig) requestFor(t *testing.T, service string, nonce owner.Nonce) *owner.Request {
	t.Helper()
	return Must(owner.NewRequest(context.Background(), owner.Asked{
		Service: service, Key: Must(owner.NewKey())(t), ECHKey: Must(atls.NewECHKey("mqtt.example", 1))(t), Nonce: nonce, Attester: r.tee, Identity: module,
	}, now))(t)
}

func (r *rig) judge(q *owner.Request, at time.Time, change func(*cafolder.Order)) (*cafolder.Accepted, error) {
	o := cafolder.Order{Policy: r.policy, Identity: "broker", Registry: attest.NewRegistry(sim.NewVerifier())}
	if change != nil {
		change(&o)
	}
	accepted, _, err := r.Judge(context.Background(), q, o, at)
	return accepted, err
}

func enroll(o *cafolder.Order) { o.Enroll = true }

// sign does the whole: nonce, request, verdict, certificate. Then it reads the folder again, as the next command will.
func (r *rig) sign(t *testing.T, nonce owner.Nonce, change func(*cafolder.Order)) *cafolder.Issued {
	t.Helper()
	accepted := Must(r.judge(r.request(t, nonce), now, change))(t)
	ca := Must(r.Unlock(nil))(t)
	issued := Must(r.Issue(ca, accepted, cafolder.Terms{Validity: 100 * time.Hour}, now))(t)
	r.Folder = Must(cafolder.Open(r.Dir))(t)
	return issued
}

func TestIssue(t *testing.T) {
	r := newRig(t)
	issued := r.sign(t, r.challenge(t), nil)
	for _, name := range []string{service, "nonce.n1." + service, "mqtt.example", "broker.example", "192.0.2.1"} {
		if err := issued.Certificate.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	b := Must(client.ParseBundle(issued.BundleFile))(t)
	if b.Serial != 1 || b.Service != service || len(b.Addresses) != 2 || !b.OwnerCA.Equal(r.Certificate) || len(b.Policy.Rules()) != 0 {
		t.Errorf("%+v", b)
	}
	kept := Must(os.ReadFile(issued.Path))(t)
	if string(kept) != string(owner.EncodeCertificate(issued.Certificate.Raw)) {
		t.Error("the folder does not keep the certificate")
	}
	if again := r.sign(t, r.challenge(t), nil); again.Bundle.Serial != 2 {
		t.Error("serial number", again.Bundle.Serial)
	}
}

// TestNonces: each is good for one request, for its time, and those of renewals as long as the certificate.
func TestNonces(t *testing.T) {
	r := newRig(t)
	nonce := r.challenge(t)
	if _, err := r.judge(r.request(t, nonce), now.Add(2*time.Hour), nil); !errors.Is(err, attest.ErrFreshness) {
		t.Error("out of its time:", err)
	}
	if _, err := r.judge(r.request(t, owner.Nonce{1}), now, nil); !errors.Is(err, attest.ErrFreshness) {
		t.Error("never given out:", err)
	}
	issued := r.sign(t, nonce, nil)
	if _, err := r.judge(r.request(t, nonce), now, nil); !errors.Is(err, attest.ErrFreshness) {
		t.Error("again:", err)
	}
	if _, err := r.judge(r.request(t, nonce), now, func(o *cafolder.Order) { o.Nonce = &nonce }); !errors.Is(err, attest.ErrFreshness) {
		t.Error("again, though asked for:", err)
	}
	renewal := owner.RenewalNonce(issued.Certificate)
	if _, err := r.judge(r.request(t, renewal), now.Add(101*time.Hour), nil); !errors.Is(err, attest.ErrFreshness) {
		t.Error("renewal of an expired certificate:", err)
	}
	if a := Must(r.judge(r.request(t, renewal), now, nil))(t); !a.Renewal {
		t.Error("a renewal is not called one")
	}
	r.sign(t, renewal, nil)
	if _, err := r.judge(r.request(t, renewal), now, nil); !errors.Is(err, attest.ErrFreshness) {
		t.Error("second renewal:", err)
	}
	own := owner.Nonce{7}
	if a := Must(r.judge(r.request(t, own), now, func(o *cafolder.Order) { o.Nonce = &own }))(t); a.Renewal {
		t.Error("a nonce of the owner's own counts as renewal")
	}
}

// TestInstances: once hardware is enrolled, no other is good enough, for the owner and for clients.
func TestInstances(t *testing.T) {
	r := newRig(t)
	first := r.sign(t, r.challenge(t), enroll)
	if got := first.Bundle.Policy.Identities()[0].Instances; len(got) != 1 || got[0] != r.Ledger.Instances[0] {
		t.Error("the bundle accepts", got)
	}
	r.tee = newTEE(t)
	if _, err := r.judge(r.request(t, r.challenge(t)), now, nil); !errors.Is(err, attest.ErrInstance) {
		t.Error(err)
	}
	if second := r.sign(t, r.challenge(t), enroll); len(second.Bundle.Policy.Identities()[0].Instances) != 2 {
		t.Error("the second machine took the place of the first")
	}
	if was := Must(r.Forget(r.Ledger.Instances[0], false))(t); !was {
		t.Error("was not enrolled")
	}
	if was := Must(r.Forget("sim:00", false))(t); was || len(r.Ledger.Instances) != 1 {
		t.Error("forgot what was not enrolled")
	}
	last := r.Ledger.Instances[0]
	if _, err := r.Forget(last, false); !errors.Is(err, cafolder.ErrLast) || len(Must(cafolder.Open(r.Dir))(t).Ledger.Instances) != 1 {
		t.Error("the last one was forgotten, so that any would do:", err)
	}
	if was := Must(r.Forget(last, true))(t); !was || len(Must(cafolder.Open(r.Dir))(t).Ledger.Instances) != 0 {
		t.Error("the last one was not forgotten, though any is to do")
	}
}

func TestOrdersThatCannotBeCarriedOut(t *testing.T) {
	r := newRig(t)
	accepted := Must(r.judge(r.request(t, r.challenge(t)), now, nil))(t)
	ca := Must(r.Unlock(nil))(t)
	for name, terms := range map[string]cafolder.Terms{
		"outlives the CA": {Validity: 2000 * time.Hour},
		"bad address":     {Validity: time.Hour, Addresses: []string{"broker"}},
		"bad name":        {Validity: time.Hour, Names: []string{"*"}},
	} {
		folder := Must(cafolder.Open(r.Dir))(t)
		if _, err := folder.Issue(ca, accepted, terms, now); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if l := Must(cafolder.Open(r.Dir))(t).Ledger; l.Serial != 0 || len(l.Issued) != 0 || len(l.Challenges) != 1 {
		t.Errorf("something is in the ledger: %+v", l)
	}
	if _, err := r.judge(r.requestFor(t, "other.example", r.challenge(t)), now, nil); !errors.Is(err, attest.ErrBinding) {
		t.Error("another service:", err)
	}
}

// TestTwoCommandsAtOnce: what two commands have read, one may change.
func TestTwoCommandsAtOnce(t *testing.T) {
	r := newRig(t)
	accepted := Must(r.judge(r.request(t, r.challenge(t)), now, nil))(t)
	ca := Must(r.Unlock(nil))(t)
	other := Must(cafolder.Open(r.Dir))(t)
	Must(other.Challenge(rand.Reader, now, now.Add(time.Hour)))(t)
	if _, err := r.Issue(ca, accepted, cafolder.Terms{Validity: time.Hour}, now); !errors.Is(err, cafolder.ErrChanged) {
		t.Error(err)
	}
	if left := Must(os.ReadDir(filepath.Join(r.Dir, "issued")))(t); len(left) != 0 {
		t.Error("a certificate was issued", left)
	}
}

// TestManyCommandsAtOnce: of those that have read the same ledger one writes, and the others say so.
func TestManyCommandsAtOnce(t *testing.T) {
	r := newRig(t)
	const all = 8
	var commands [all]*cafolder.Folder
	for i := range commands {
		commands[i] = Must(cafolder.Open(r.Dir))(t)
	}
	var work sync.WaitGroup
	var failures [all]error
	for i, f := range commands {
		work.Go(func() { _, failures[i] = f.Challenge(rand.Reader, now, now.Add(time.Hour)) })
	}
	work.Wait()
	done := 0
	for _, err := range failures {
		if err == nil {
			done++
		} else if !errors.Is(err, cafolder.ErrChanged) {
			t.Error(err)
		}
	}
	if kept := len(Must(cafolder.Open(r.Dir))(t).Ledger.Challenges); done != 1 || kept != 1 {
		t.Errorf("%d commands were told that all went well, and the ledger has %d nonces", done, kept)
	}
	if left := Must(filepath.Glob(filepath.Join(r.Dir, ".ledger*")))(t); len(left) != 0 {
		t.Error("files are left:", left)
	}
}

func TestPassphrase(t *testing.T) {
	founding := cafolder.Founding{Service: service, Validity: time.Hour, Passphrase: []byte("secret"), WorkFactor: 10}
	f := Must(cafolder.Init(filepath.Join(t.TempDir(), "ca"), founding, now))(t)
	if _, err := os.Stat(filepath.Join(f.Dir, cafolder.KeyFile)); err == nil || !f.Sealed() {
		t.Error("the key lies open")
	}
	for _, wrong := range []string{"", "Secret"} {
		if _, err := f.Unlock([]byte(wrong)); !errors.Is(err, cafolder.ErrPassphrase) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	ca := Must(f.Unlock([]byte("secret")))(t)
	if !ca.Certificate().Equal(f.Certificate) {
		t.Error("another key")
	}
	for _, name := range []string{cafolder.SealedKeyFile, "ledger.json"} {
		if info := Must(os.Stat(filepath.Join(f.Dir, name)))(t); info.Mode() != 0o600 {
			t.Error(name, info.Mode())
		}
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	founding := cafolder.Founding{Service: service, Validity: time.Hour}
	for _, name := range []string{cafolder.CertificateFile, cafolder.KeyFile, cafolder.SealedKeyFile, "ledger.json"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := cafolder.Init(dir, founding, now); !errors.Is(err, cafolder.ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
		if left := Must(os.ReadDir(dir))(t); len(left) != 1 || string(Must(os.ReadFile(filepath.Join(dir, name)))(t)) != "mine" {
			t.Errorf("%s: %v", name, left)
		}
	}
}

func TestDamagedFolder(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.Dir, "ledger.json")
	good := string(Must(os.ReadFile(path))(t))
	for name, bad := range map[string]string{
		"empty": "", "cut short": good[:len(good)/2], "text behind": good + "{}", "later version": strings.Replace(good, `"version": 1`, `"version": 2`, 1),
		"unknown key": strings.Replace(good, `{`, `{"more": 1,`, 1), "bad service": strings.Replace(good, service, "-", 1),
		"bad next CA": strings.Replace(good, `{`, `{"next_ca": "AAAA",`, 1),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := cafolder.Open(r.Dir); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
