package auth

import (
	"context"
	"slices"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/guard"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Login authenticates the client of one connection, step by step. Step is called by one goroutine at a time, with the
// requests of the core, and may take long; ctx ends with the connection.
//
// The reason code is 0 (the client is in), 0x18 (enhanced authentication goes on) or one from 0x80.
type Login interface {
	Step(ctx context.Context, r *abi.AuthRequest) (mqtt.ReasonCode, abi.AuthAnswer)
}

// Login begins the authentication of a connection.
func (a *Authenticator) Login(c Client) Login { return &login{a: a, client: c} }

type login struct {
	a      *Authenticator
	client Client
	scram  *conversation // nil: none is open

	clientID string // of the CONNECT, for the log
	in       bool   // the client has been let in
	user     string // as whom
}

// result is what a step comes to.
type result struct {
	code mqtt.ReasonCode
	user string // with code 0, and with a failure for the log
	data []byte // for the client
	why  string // of a failure, for the log
}

// Step implements Login.
func (l *login) Step(ctx context.Context, r *abi.AuthRequest) (mqtt.ReasonCode, abi.AuthAnswer) {
	if r.Stage == abi.AuthConnect {
		l.clientID = r.ClientID
	}
	if l.lockedOut() {
		return l.answer(result{code: mqtt.Banned})
	}
	out := l.step(ctx, r)
	if out.code == mqtt.Success {
		out = l.letIn(out)
	}
	l.blame(ctx, out)
	return l.answer(out)
}

func (l *login) step(ctx context.Context, r *abi.AuthRequest) result {
	switch {
	case r.Stage == abi.AuthContinue && l.scram != nil:
		return l.finishSCRAM(r)
	case r.Stage == abi.AuthContinue:
		return result{code: mqtt.ProtocolError, why: "AUTH without anything to go on with"}
	case r.Method == scramMethod:
		return l.beginSCRAM(r)
	case r.Method != "" || r.Stage != abi.AuthConnect:
		return result{code: mqtt.BadAuthenticationMethod, why: "unknown authentication method"}
	}
	return l.judge(ctx, r)
}

// judge asks the sources.
func (l *login) judge(ctx context.Context, r *abi.AuthRequest) result {
	s := l.a.state.Load()
	q := &question{&l.client, r}
	sources := s.sourcesFor(l.client.Listener)
	for _, source := range sources {
		if v := source.judge(ctx, s.hashes, q); v.decided() {
			return v.result(q)
		}
	}
	switch {
	case slices.Contains(s.config.Attested, l.client.Listener) && len(l.client.Identities) > 0 && !q.HasPassword:
		return result{}
	case slices.Contains(s.config.Anonymous, l.client.Listener) && (q.bare() || len(sources) == 0):
		return result{}
	case q.bare():
		return result{code: mqtt.NotAuthorized, why: "no user name and password"}
	}
	return result{code: mqtt.BadUserNameOrPassword, user: q.userName(), why: "unknown user"}
}

func (v verdict) result(q *question) result {
	switch v.opinion {
	case accepts:
		return result{user: v.user}
	case cannotTell:
		return result{code: mqtt.ServerUnavailable, user: q.userName(), why: v.reason}
	}
	return result{code: mqtt.BadUserNameOrPassword, user: q.userName(), why: v.reason}
}

// letIn is the last look at a client that is the one that it says. If others from its address have failed so often
// meanwhile that it has been locked out, being right counts no more: many guesses at once would else be free.
func (l *login) letIn(out result) result {
	switch {
	case l.lockedOut():
		return result{code: mqtt.Banned}
	case l.in && out.user != l.user:
		return result{code: mqtt.NotAuthorized, user: out.user, why: "another user than before"}
	}
	l.in, l.user = true, out.user
	return out
}

func (l *login) lockedOut() bool {
	return l.a.guard != nil && !l.a.guard.Allowed(l.client.Address.Addr())
}

// blame counts a login that failed for something that the client sent.
func (l *login) blame(ctx context.Context, out result) {
	if l.a.guard == nil || out.code != mqtt.BadUserNameOrPassword && out.code != mqtt.NotAuthorized {
		return
	}
	user := out.user
	if l.userHoldsToken() {
		user = ""
	}
	l.a.guard.Failed(ctx, guard.Failure{
		Address: l.client.Address.Addr(), Listener: l.client.Listener,
		User: user, ClientID: l.clientID, Reason: out.why,
	})
}

// userHoldsToken tells whether user names may be tokens, which must not stand in a log.
func (l *login) userHoldsToken() bool {
	for _, s := range l.a.state.Load().sourcesFor(l.client.Listener) {
		if j, ok := s.(*jwtSource); ok && j.config.From == "user_name" {
			return true
		}
	}
	return false
}

// answer makes the words for the client, which tell nothing that helps in guessing.
func (l *login) answer(out result) (mqtt.ReasonCode, abi.AuthAnswer) {
	answer := abi.AuthAnswer{Data: out.data, Reason: refusals[out.code]}
	if out.code == mqtt.Success {
		answer.User = out.user
	}
	return l.fitting(out.code), answer
}

// refusals are what a client is told.
var refusals = map[mqtt.ReasonCode]string{
	mqtt.BadUserNameOrPassword:   "the credentials are not accepted",
	mqtt.NotAuthorized:           "the credentials are not accepted",
	mqtt.Banned:                  "too many failed logins; try again later",
	mqtt.ServerUnavailable:       "authentication is not possible now; try again later",
	mqtt.BadAuthenticationMethod: "the authentication method is not known here",
}

// fitting translates a code that a CONNACK may have into one that a DISCONNECT may have (table 3-13), when the client
// was in already.
func (l *login) fitting(code mqtt.ReasonCode) mqtt.ReasonCode {
	if !l.in {
		return code
	}
	switch code {
	case mqtt.BadUserNameOrPassword, mqtt.Banned:
		return mqtt.NotAuthorized
	case mqtt.ServerUnavailable:
		return mqtt.ServerBusy
	}
	return code
}
