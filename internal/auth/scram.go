package auth

import (
	"errors"

	"github.com/xdg-go/scram"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/auth/passwords"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// scramMethod is the name of the method (RFC 7677). The client's first message comes with CONNECT, or with AUTH 0x19
// when it authenticates anew; ours and its final one go in AUTH 0x18, and our final one in CONNACK or AUTH 0.
const scramMethod = "SCRAM-SHA-256"

// maxSCRAM bounds a message of the client, in bytes.
const maxSCRAM = 4096

var errSCRAMSize = errors.New("the SCRAM message is too long")

// nonces makes the broker's part of a nonce; nil is the library's way, 24 random bytes.
type nonces = scram.NonceGeneratorFcn

// conversation is one run of SCRAM.
type conversation struct {
	*scram.ServerConversation
	user *passwords.User // nil: there is none, and the conversation is for show
	name string          // as the client gave it
}

// beginSCRAM answers the client's first message.
func (l *login) beginSCRAM(r *abi.AuthRequest) result {
	l.scram = nil
	files := l.a.state.Load().passwordFiles(l.client.Listener)
	if len(files) == 0 {
		return result{code: mqtt.BadAuthenticationMethod, why: "no password file for SCRAM"}
	}
	c := &conversation{}
	first, err := c.begin(l.a, files, r.Data, nil)
	switch {
	case err != nil:
		return result{code: mqtt.BadUserNameOrPassword, user: r.User, why: "malformed SCRAM message"}
	case r.HasUser && r.User != c.name && !samePrepared(r.User, c.name):
		return result{code: mqtt.BadUserNameOrPassword, user: r.User, why: "user name is not that of SCRAM"}
	case c.AuthzID() != "" && c.AuthzID() != c.name:
		return result{code: mqtt.BadUserNameOrPassword, user: c.name, why: "SCRAM client wants to be another user"}
	}
	l.scram = c
	return result{code: mqtt.ContinueAuthentication, data: first}
}

// finishSCRAM judges the client's final message.
func (l *login) finishSCRAM(r *abi.AuthRequest) result {
	c := l.scram
	l.scram = nil
	if r.Method != "" && r.Method != scramMethod { // [MQTT-4.12.0-5]
		return result{code: mqtt.ProtocolError, user: c.name, why: "another authentication method than before"}
	}
	if len(r.Data) > maxSCRAM {
		return result{code: mqtt.BadUserNameOrPassword, user: c.name, why: "malformed SCRAM message"}
	}
	final, err := c.Step(string(r.Data))
	if err != nil || !c.Valid() || c.user == nil {
		return result{code: mqtt.BadUserNameOrPassword, user: c.name, why: "wrong SCRAM proof"}
	}
	return result{user: c.user.Name, data: []byte(final)}
}

// begin looks the user up and makes the first answer.
func (c *conversation) begin(a *Authenticator, files []*passwords.File, message []byte, nonce nonces) ([]byte, error) {
	if len(message) > maxSCRAM {
		return nil, errSCRAMSize
	}
	server, err := scram.SHA256.NewServer(func(name string) (scram.StoredCredentials, error) {
		var stored scram.StoredCredentials
		c.name = name
		c.user, stored = a.scramCredentials(files, name)
		return stored, nil
	})
	if err != nil {
		return nil, err
	}
	if nonce != nil {
		server = server.WithNonceGenerator(nonce)
	}
	c.ServerConversation = server.NewConversation()
	first, err := c.Step(string(message))
	return []byte(first), err
}

// scramCredentials finds a user's verifier, or makes up one that looks like those of others and fits no password. For
// the same name it is the same each time, as it would be for a user.
func (a *Authenticator) scramCredentials(files []*passwords.File, name string) (*passwords.User, scram.StoredCredentials) {
	for _, f := range files {
		if u := f.FindSCRAM(name); u != nil {
			return u, u.SCRAM.StoredCredentials
		}
	}
	prepared, err := passwords.Prepare(name)
	if err != nil {
		prepared = name
	}
	like := scramLike(files, a.pick("scram", prepared))
	return nil, scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: a.salt(prepared, len(like.Salt)), Iters: like.Iters},
		StoredKey:  a.madeUp("stored key", prepared), ServerKey: a.madeUp("server key", prepared),
	}
}

// salt makes up a salt of n bytes, at most 64.
func (a *Authenticator) salt(name string, n int) string {
	return string(append(a.madeUp("salt", name), a.madeUp("more salt", name)...)[:n])
}

// scramLike picks a verifier whose parameters a made-up one takes.
func scramLike(files []*passwords.File, pick uint64) scram.KeyFactors {
	for _, f := range files {
		if all := f.Verifiers(); len(all) > 0 {
			return all[pick%uint64(len(all))].KeyFactors
		}
	}
	return scram.KeyFactors{Salt: string(make([]byte, 16)), Iters: passwords.DefaultSCRAMIterations}
}

// passwordFiles are those for a listener.
func (s *state) passwordFiles(listener string) (files []*passwords.File) {
	for _, source := range s.sourcesFor(listener) {
		if p, ok := source.(*passwordSource); ok {
			files = append(files, p.file)
		}
	}
	return files
}

func samePrepared(a, b string) bool {
	x, err1 := passwords.Prepare(a)
	y, err2 := passwords.Prepare(b)
	return err1 == nil && err2 == nil && x == y
}
