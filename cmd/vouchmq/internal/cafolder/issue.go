package cafolder

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
)

// Order says what a request is judged by.
type Order struct {
	Policy   *policy.Policy
	Identity string // of the policy: what the broker must be
	Registry *attest.Registry
	Nonce    *owner.Nonce // that the request must answer; nil: one that the folder knows
	Enroll   bool         // take the request's hardware among the instances, whichever it is
}

// Accepted is a request that was verified. Only Judge makes one.
type Accepted struct {
	Verdict  *policy.Verdict
	Renewal  bool // of a certificate of this folder
	request  *owner.Request
	identity policy.Identity // with the instances
	enrolled string          // hardware that comes in addition; "" for none
}

// Instances returns the hardware that bundles accept from now on; none: any.
func (a *Accepted) Instances() []string { return a.identity.Instances }

// Configs returns the configurations that bundles accept; none: any.
func (a *Accepted) Configs() []attest.Digest { return a.identity.Configs }

// Enrolled returns the hardware that is added to what bundles accept, "" if none is.
func (a *Accepted) Enrolled() string { return a.enrolled }

// Judge verifies a request. The verdict is nil if the request is refused for another reason than its evidence.
func (f *Folder) Judge(ctx context.Context, r *owner.Request, o Order, now time.Time) (*Accepted, *policy.Verdict, error) {
	if r.Service != f.Ledger.Service {
		return nil, nil, attest.Errorf(attest.ErrBinding, "the request is for the service %q, and this folder is for %q", r.Service, f.Ledger.Service)
	}
	identity, err := f.identity(o.Policy, o.Identity)
	if err != nil {
		return nil, nil, err
	}
	nonce, renewal, err := f.nonceFor(r, o.Nonce, now)
	if err != nil {
		return nil, nil, err
	}
	verdict, err := appraise(ctx, r, identity, o, nonce, now)
	if err != nil {
		return nil, nil, err
	}
	if !verdict.Accepted {
		return nil, verdict, verdict.Err
	}
	a := &Accepted{Verdict: verdict, Renewal: renewal, request: r, identity: identity}
	if o.Enroll {
		err = a.enroll()
	}
	return a, verdict, err
}

// identity is the one of the policy by that name, with the hardware that was enrolled here.
func (f *Folder) identity(p *policy.Policy, name string) (policy.Identity, error) {
	var names []string
	for _, id := range p.Identities() {
		if id.Name == name {
			id.Instances = union(id.Instances, f.Ledger.Instances)
			return id, nil
		}
		names = append(names, id.Name)
	}
	return policy.Identity{}, fmt.Errorf("the policy has no identity %q; it has %s", name, strings.Join(names, ", "))
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// nonceFor returns the nonce that a request must answer, and whether that is the one of a renewal.
func (f *Folder) nonceFor(r *owner.Request, given *owner.Nonce, now time.Time) (owner.Nonce, bool, error) {
	for _, record := range f.Ledger.Issued {
		if record.Nonce == r.Nonce.String() {
			return r.Nonce, false, attest.Errorf(attest.ErrFreshness, "a request with this nonce was signed on %s: the certificate is %s", record.At.Format(time.RFC3339), f.issuedPath(record.Serial))
		}
	}
	if given != nil {
		return *given, false, nil
	}
	for _, c := range f.Ledger.Challenges {
		if c.Nonce == r.Nonce.String() && now.Before(c.Until) {
			return r.Nonce, false, nil
		}
	}
	for _, record := range f.Ledger.Issued {
		if record.Renewal == r.Nonce.String() && now.Before(record.NotAfter) {
			return r.Nonce, true, nil
		}
	}
	return r.Nonce, false, attest.Errorf(attest.ErrFreshness, "the request answers no nonce that this folder waits for: it may be an old one that is used again")
}

// appraise judges the evidence. Where hardware is enrolled now, any will do.
func appraise(ctx context.Context, r *owner.Request, id policy.Identity, o Order, nonce owner.Nonce, now time.Time) (*policy.Verdict, error) {
	if o.Enroll {
		id.Instances = nil
	}
	p, err := policy.New([]policy.Identity{id}, nil)
	if err != nil {
		return nil, err
	}
	return r.Appraise(ctx, policy.NewAppraiser(p, o.Registry), nonce, now), nil
}

func (a *Accepted) enroll() error {
	hardware := a.Verdict.Facts.HardwareID
	if hardware == "" {
		return attest.Errorf(attest.ErrInstance, "the evidence does not name its hardware, so it cannot be enrolled")
	}
	if !slices.Contains(a.identity.Instances, hardware) {
		a.enrolled = hardware
		a.identity.Instances = union(a.identity.Instances, []string{hardware})
	}
	return nil
}

// Terms are what the owner grants.
type Terms struct {
	Validity  time.Duration // of the certificate
	Addresses []string      // that replace those of the folder; nil keeps them
	Names     []string      // likewise
	NotAfter  time.Time     // of the bundle; zero: it does not expire
}

// Issued is what came of a request.
type Issued struct {
	Certificate *x509.Certificate
	Path        string // where the folder keeps it
	Bundle      *client.Bundle
	BundleFile  []byte // signed
}

// Issue issues the certificate that was asked for and signs the bundle that goes with it. Both are in the ledger when it
// returns.
func (f *Folder) Issue(ca *owner.CA, a *Accepted, t Terms, now time.Time) (*Issued, error) {
	f.Ledger.take(t)
	names, ips, err := f.Ledger.names()
	if err != nil {
		return nil, err
	}
	if err := f.outlives(now, t.Validity); err != nil {
		return nil, err
	}
	server := owner.Server{Service: a.request.Service, PublicName: a.request.PublicName(), Names: names, IPs: ips}
	out := &Issued{}
	if out.Certificate, err = ca.IssueServer(a.request.CSR.PublicKey, server, now, t.Validity); err != nil {
		return nil, err
	}
	f.Ledger.ECH = a.request.ECHConfigList
	f.Ledger.Instances = union(f.Ledger.Instances, texts(a.enrolled))
	if out.Bundle, out.BundleFile, err = f.sign(ca, a.identity, t.NotAfter, now); err != nil {
		return nil, err
	}
	record := recordOf(a, out.Certificate, now)
	out.Path = f.issuedPath(record.Serial)
	f.Ledger.note(record, a.request.Nonce, now)
	if err := f.save(); err != nil { // before anything leaves this function
		return nil, err
	}
	return out, errors.Join(os.MkdirAll(f.path(issuedFolder), 0o700),
		atomicfile.Create(out.Path, owner.EncodeCertificate(out.Certificate.Raw), atomicfile.Public))
}

func texts(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// take takes over what the owner says anew.
func (l *Ledger) take(t Terms) {
	if t.Addresses != nil {
		l.Addresses = t.Addresses
	}
	if t.Names != nil {
		l.Names = t.Names
	}
}

func (f *Folder) issuedPath(serial string) string {
	return f.path(issuedFolder + "/" + serial + ".pem")
}

func recordOf(a *Accepted, c *x509.Certificate, now time.Time) Record {
	facts := a.Verdict.Facts
	return Record{
		Serial: fmt.Sprintf("%x", c.SerialNumber), At: now.UTC().Truncate(time.Second), NotAfter: c.NotAfter,
		Nonce: a.request.Nonce.String(), Renewal: owner.RenewalNonce(c).String(),
		Hardware: facts.HardwareID, Module: facts.Module.String(), Config: facts.Config.String(),
	}
}

// note enters a certificate, and uses up the nonce that its request answered.
func (l *Ledger) note(r Record, nonce owner.Nonce, now time.Time) {
	l.Challenges = slices.DeleteFunc(l.Challenges, func(c Challenge) bool { return c.Nonce == nonce.String() })
	l.forgetChallenges(now)
	for i := range l.Issued {
		if l.Issued[i].Renewal == nonce.String() {
			l.Issued[i].Renewed = true
		}
	}
	l.Issued = append(l.Issued, r)
}

// Bundle signs a new bundle with the ECH configuration of the last one, when something else has changed: policy, addresses,
// or the announced CA.
func (f *Folder) Bundle(ca *owner.CA, p *policy.Policy, identity string, t Terms, now time.Time) (*client.Bundle, []byte, error) {
	if len(f.Ledger.ECH) == 0 {
		return nil, nil, errors.New("no broker has been enrolled yet: the first bundle comes with its certificate, from `vouchmq ca sign`")
	}
	f.Ledger.take(t)
	id, err := f.identity(p, identity)
	if err != nil {
		return nil, nil, err
	}
	b, file, err := f.sign(ca, id, t.NotAfter, now)
	if err != nil {
		return nil, nil, err
	}
	return b, file, f.save()
}

// sign makes the bundle with the next serial number.
func (f *Folder) sign(ca *owner.CA, id policy.Identity, notAfter, now time.Time) (*client.Bundle, []byte, error) {
	p, err := policy.New([]policy.Identity{id}, nil)
	if err != nil {
		return nil, nil, err
	}
	next, err := f.Ledger.nextCA()
	if err != nil {
		return nil, nil, err
	}
	f.Ledger.Serial++
	b := &client.Bundle{
		Service: f.Ledger.Service, Addresses: f.Ledger.Addresses, OwnerCA: f.Certificate, ECHConfigList: f.Ledger.ECH,
		Policy: p, Serial: f.Ledger.Serial, IssuedAt: now.UTC().Truncate(time.Second), NotAfter: notAfter, NextCA: next,
	}
	file, err := b.Sign(ca.Key())
	return b, file, err
}

// ErrLast says that the hardware is the last one that is enrolled.
var ErrLast = errors.New("no other hardware is enrolled, so that any would be accepted without it, and it as well")

// Forget takes hardware out of what was enrolled, and reports whether it was among it. It counts from the next bundle on. The last one
// stays, with ErrLast, unless any is to be accepted from then on.
func (f *Folder) Forget(hardware string, acceptAny bool) (bool, error) {
	i := slices.Index(f.Ledger.Instances, hardware)
	if i < 0 {
		return false, nil
	}
	if len(f.Ledger.Instances) == 1 && !acceptAny {
		return true, ErrLast
	}
	f.Ledger.Instances = slices.Delete(f.Ledger.Instances, i, i+1)
	return true, f.save()
}
