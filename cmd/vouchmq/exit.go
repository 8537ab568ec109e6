package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
	"github.com/vouchmq/vouchmq/internal/admin"
)

// Exit statuses. The last is that of mosquitto_sub.
const (
	exitOK          = 0
	exitGeneral     = 1  // wrong usage, or an error that is none of the others
	exitConnect     = 2  // nobody answered, or the connection was lost
	exitAttestation = 3  // the other side was not verified, or was verified and refused
	exitRefused     = 4  // the broker said no: CONNACK, SUBACK, PUBACK or DISCONNECT with a reason
	exitTimeout     = 27 // the time of -W is up
)

// hintedError is an error with a line that says what to do next.
type hintedError struct {
	error
	hint string
}

func (e hintedError) Unwrap() error { return e.error }

func withHint(err error, hint string) error { return hintedError{err, hint} }

// errTimeout says that the time of -W is up.
var errTimeout = errors.New("the time is up")

// errNoConnection says that somebody answered, and no connection came about.
var errNoConnection = errors.New("no connection")

// outcome is what an error means to the shell and to the person before it.
type outcome struct {
	status int
	hint   string
}

func outcomeOf(err error) outcome {
	var o outcome
	var refusal *pubsub.Refusal
	var kind attest.Kind
	var no *admin.Error
	var file refusedError
	switch {
	case errors.As(err, &file):
		o.status = exitAttestation
	case errors.Is(err, errTimeout):
		o.status = exitTimeout
	case errors.As(err, &refusal):
		o = outcome{exitRefused, refusalHint(refusal)}
	case errors.Is(err, admin.ErrNoBroker):
		o = outcome{exitConnect, noBrokerHint(err)}
	case errors.As(err, &no) && no.Code != admin.BadRequest:
		o = outcome{exitRefused, administrationHint(no)}
	case isNetwork(err):
		o = outcome{exitConnect, networkHint(err)}
	case errors.As(err, new(refusedBundle)), errors.Is(err, client.ErrBundleExpired), errors.Is(err, client.ErrBundleSignature):
		o.status = exitAttestation
	case errors.Is(err, atls.ErrCertificate):
		o = outcome{exitAttestation, "ask the owner for a certificate (vouchmq ca client), and show it with --cert and --key; one that is refused may have expired, or been revoked"}
	case errors.As(err, &kind):
		o = outcome{exitAttestation, attestationHint(kind)}
		if outOfTime(err) {
			o.hint = clockHint
		}
	case errors.Is(err, errNoConnection), errors.Is(err, pubsub.ErrLost), errors.Is(err, pubsub.ErrNoConnack),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		o.status = exitConnect
	default:
		o.status = exitGeneral
	}
	var hinted hintedError
	if errors.As(err, &hinted) {
		o.hint = hinted.hint
	}
	return o
}

// isNetwork reports whether no connection came about at all. What fails later, within TLS, is for attestation to
// judge.
func isNetwork(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

const clockHint = "is the clock of this machine right? If it is, the certificate has expired: tell the owner of the broker"

// outOfTime reports whether a certificate has expired or is not good yet, by the clock of this machine.
func outOfTime(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.Expired
}

func noBrokerHint(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "only the user that the broker runs as, and root, may administer it"
	}
	return "is the broker running, and on this machine? Name its socket with --socket or " + socketEnv
}

func administrationHint(e *admin.Error) string {
	switch e.Code {
	case admin.NotFound:
		return "see: vouchmq clients list"
	case admin.Unavailable:
		return "see how the broker was started"
	}
	return ""
}

func networkHint(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "check the host name, and whether this machine can resolve names"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is the broker running, and on that port? Start one with: vouchmq serve"
	}
	return "check host and port, and what is between you and them"
}

func refusalHint(r *pubsub.Refusal) string {
	switch r.Reason {
	case 0x86, 4:
		return "check -u and --password-file"
	case 0x87, 5, 0x80:
		return "the broker's policy does not allow this to you: see its rules, and whether it wants a password (-u) or evidence (--attest)"
	case 0x8A:
		return "this address is locked out after failed logins: wait, or have it let in again with vouchmq unlock"
	case 0x84, 1:
		return "try another protocol version: -V mqttv311"
	case 0x85, 2:
		return "choose another client id: -i"
	}
	return ""
}

// attestationHints are by the kind of failure, the special before the general.
var attestationHints = []struct {
	kind attest.Kind
	hint string
}{
	{attest.ErrModule, "the broker runs other code than the bundle accepts: ask the owner for a new bundle if that is meant, else do not use it"},
	{attest.ErrConfig, "the broker has another configuration or policy than the bundle accepts: ask the owner for a new bundle if that is meant"},
	{attest.ErrRuntime, "the broker runs under another runtime than the bundle accepts: ask the owner for a new bundle if that is meant"},
	{attest.ErrSimulated, "the TEE is simulated and protects nothing; only a policy that says \"simulated: allow\" accepts it"},
	{attest.ErrPolicy, "the bundle's policy does not accept this broker: ask the owner"},
	{attest.ErrBinding, "the evidence was made for another connection: somebody may be between you and the broker"},
	{attest.ErrECH, "the bundle may be too old: ask the owner for a new one"},
	{attest.ErrMissing, "the other side gave no evidence: is this the attested listener?"},
	{attest.ErrFreshness, "is the clock of this machine right?"},
	{attest.ErrTLS, "is this the attested listener of the bundle's broker?"},
}

func attestationHint(kind attest.Kind) string {
	for _, h := range attestationHints {
		if errors.Is(kind, h.kind) {
			return h.hint
		}
	}
	return ""
}

// report prints an error and what to do about it, and returns the exit status.
func report(command *cobra.Command, err error) int {
	w := command.ErrOrStderr()
	o := outcomeOf(err)
	var signal interrupted
	if errors.As(err, &signal) || errors.Is(err, context.Canceled) {
		fmt.Fprintln(w, "interrupted")
		return exitGeneral
	}
	if o.status == exitTimeout {
		return o.status // as mosquitto_sub: without a word
	}
	fmt.Fprintf(w, "%s: %v\n", command.CommandPath(), err)
	if o.hint != "" {
		fmt.Fprintf(w, "  %s\n", o.hint)
	}
	return o.status
}
