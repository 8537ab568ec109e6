package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/server/enrolment"
	"github.com/vouchmq/vouchmq/internal/server/settings"
	"github.com/vouchmq/vouchmq/internal/tee"
)

// ErrNotEnrolled says that a broker has no certificate of its owner yet.
var ErrNotEnrolled = enrolment.ErrNotEnrolled

// state opens the state folder: one with an owner CA of its own, or that of a broker whose owner is elsewhere. What a running
// broker follows there is noted once it has been made, and read after that.
func (o *opener) state() (*State, error) {
	if o.settings.Owner != "" {
		return o.enrolledState()
	}
	s := &o.settings.File
	state, err := OpenState(o.path(s.State), s.Service, s.PublicName, o.opening.Now)
	if err != nil {
		return nil, o.fail("state", err)
	}
	o.watch(state.watched()...)
	if err := state.openCertificate(o.opening.Now); err != nil {
		return nil, o.fail("state", fmt.Errorf("state folder %s: %w", state.Dir, err))
	}
	return state, nil
}

func (o *opener) enrolledState() (*State, error) {
	state, err := o.enrolling()
	if err != nil {
		return nil, err
	}
	refused := state.Enrolment.TakeDelivered(o.opening.Now)
	o.watch(state.watched()...)
	id, err := state.Enrolment.Current()
	if err != nil {
		return nil, o.fail("state", errors.Join(err, refused))
	}
	if refused != nil && o.opening.Log != nil {
		o.opening.Log.Warn("DELIVERED CERTIFICATE IS NOT USED, the old one stays in force", "error", refused)
	}
	state.Certificate, state.ECHKeys = id.Certificate, id.ECHKeys
	return state, nil
}

// enrolling opens the folder of a broker whose owner is elsewhere, without a certificate.
func (o *opener) enrolling() (*State, error) {
	s := &o.settings.File
	ca, err := o.ownerCA()
	if err != nil {
		return nil, o.fail("owner", err)
	}
	state := &State{Dir: o.path(s.State), Service: s.Service, PublicName: s.PublicName}
	state.Enrolment = o.folder(ca)
	if err := os.MkdirAll(state.Dir, 0o700); err != nil {
		return nil, o.fail("state", err)
	}
	if err := state.openSim(o.opening.Now); err != nil {
		return nil, o.fail("state", fmt.Errorf("state folder %s: %w", state.Dir, err))
	}
	return state, nil
}

func (o *opener) folder(ca *x509.Certificate) *enrolment.Folder {
	s := &o.settings.File
	return &enrolment.Folder{
		Dir: o.path(s.State), Service: s.Service, PublicName: s.PublicName, Owner: ca, OwnerFile: o.path(s.Owner),
	}
}

// ownerCA reads the certificate of the owner CA.
func (o *opener) ownerCA() (*x509.Certificate, error) {
	name := o.path(o.settings.Owner)
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	ca, err := owner.ParseCertificate(text)
	if err == nil {
		err = owner.CheckCA(ca)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return ca, nil
}

// checkEnrolment looks at what the owner has given, and makes nothing.
func (o *opener) checkEnrolment() {
	ca, err := o.ownerCA()
	if err != nil {
		o.wrong("owner", err)
		return
	}
	f := o.folder(ca)
	if _, err := os.Stat(f.Path(enrolment.IdentityFile)); errors.Is(err, fs.ErrNotExist) {
		return // it is not enrolled yet
	}
	if _, err := f.Current(); err != nil {
		o.wrong("state", err)
	}
}

// watched are the files of the folder whose change concerns a running broker.
func (s *State) watched() []string {
	if s.Enrolment != nil {
		return s.Enrolment.Watched()
	}
	return []string{s.Path(BrokerCertFile), s.Path(BrokerKeyFile)}
}

// refresh reads the certificate of the folder anew, and what comes with it.
func (s *State) refresh(c *Config, now time.Time) (err error) {
	if s.Enrolment == nil {
		c.Certificate, err = loadPair(s.Path(BrokerCertFile), s.Path(BrokerKeyFile))
		return err
	}
	id, err := s.Enrolment.Open(now)
	if err != nil {
		return err
	}
	c.Certificate, c.ECHKeys = id.Certificate, id.ECHKeys
	return nil
}

// takeDelivered installs a certificate that was put into the folder. What is wrong with it Refresh says, which tries again.
func (o *Opened) takeDelivered(now time.Time) {
	if f := o.State.Enrolment; f != nil {
		_ = f.TakeDelivered(now)
	}
}

// Enrolling is a broker that asks for a certificate. Nothing of it listens.
type Enrolling struct {
	Folder   *enrolment.Folder
	Identity attest.Identity // what its evidence claims, as that of the running broker will
	attester attest.Attester
	now      time.Time
	log      *slog.Logger
}

// PrepareEnrolment reads the files that settings name, as Open does, for a broker that may have no certificate yet.
func PrepareEnrolment(s *settings.Settings, o Opening) (*Enrolling, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	work := &opener{settings: s, opening: o}
	if s.Owner == "" {
		return nil, work.fail("owner", errors.New("it is missing: name the certificate of the owner CA that is to issue this broker's certificate"))
	}
	config := work.config()
	p := work.policy()
	work.listeners(&config)
	if err := work.problems.Err(); err != nil {
		return nil, err
	}
	state, err := work.enrolling()
	if err != nil {
		return nil, err
	}
	if config.Runtime, err = work.runtime(); err != nil {
		return nil, err
	}
	if p == nil {
		return nil, work.fail("policy", errors.New("it is missing: its digest is part of what the evidence claims"))
	}
	state.Configure(&config)
	if err := work.tee(state, &config); err != nil {
		return nil, err
	}
	config.Policy = p
	id, err := config.Identity()
	if err != nil {
		return nil, err
	}
	return &Enrolling{Folder: state.Enrolment, Identity: id, attester: config.Attester, now: o.Now, log: o.Log}, nil
}

// Request makes a request that answers a nonce of the owner's. Its evidence is what that of the running broker will be, so the platform measures the
// module now, where it can: what a policy demands of the register, the owner demands, too.
func (e *Enrolling) Request(ctx context.Context, nonce owner.Nonce) (*owner.Request, error) {
	if err := tee.Measure(ctx, e.attester, e.Identity.Module, e.log); err != nil {
		return nil, err
	}
	return e.Folder.Request(ctx, e.attester, e.Identity, nonce, e.now)
}

// Renewal makes a request for the renewal of the certificate that is in use.
func (e *Enrolling) Renewal(ctx context.Context) (*owner.Request, error) {
	id, err := e.Folder.Current()
	if err != nil {
		return nil, err
	}
	return e.Request(ctx, owner.RenewalNonce(id.Certificate.Leaf))
}

// Install puts a certificate in force. A running broker with the same folder notices it.
func (e *Enrolling) Install(certificate []byte) (*x509.Certificate, error) {
	return e.Folder.Install(certificate, e.now)
}
