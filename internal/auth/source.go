package auth

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// source is one place that knows clients. judge is called by many goroutines.
type source interface {
	judge(ctx context.Context, turn turns, q *question) verdict
}

// question is who asks to be let in, with what.
type question struct {
	*Client
	*abi.AuthRequest
}

// UserName is the user name of the CONNECT, "" if there is none.
func (q *question) userName() string {
	if !q.HasUser {
		return ""
	}
	return q.AuthRequest.User
}

// certified is the user of the client's certificate.
func (q *question) certified() string { return q.Client.User }

// bare tells whether the client sent neither user name nor password.
func (q *question) bare() bool { return !q.HasUser && !q.HasPassword }

// opinion is what a source thinks of a client.
type opinion uint8

const (
	noOpinion opinion = iota
	accepts
	refuses
	cannotTell // now; perhaps later
)

// verdict is an opinion with what belongs to it.
type verdict struct {
	opinion
	user   string // with accepts
	reason string // with refuses and cannotTell: for the operator, never for the client
}

func accept(user string) verdict   { return verdict{opinion: accepts, user: user} }
func refuse(reason string) verdict { return verdict{opinion: refuses, reason: reason} }
func notNow(reason string) verdict { return verdict{opinion: cannotTell, reason: reason} }
func (o opinion) decided() bool    { return o != noOpinion }
func undecided() verdict           { return verdict{} }
func validUser(user string) bool   { return user != "" && len(user) <= 1024 && printable(user) }
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// turns bounds how many do something at once.
type turns chan struct{}

func newTurns(n int) turns { return make(turns, n) }

// take waits for one's turn; false says that ctx ended first. After true, give it back.
func (t turns) take(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case t <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t turns) give() { <-t }
