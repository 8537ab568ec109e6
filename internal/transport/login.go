package transport

import (
	"context"
	"io"
	"log/slog"
	"net/netip"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Login authenticates the client of one connection, step by step. One that is an io.Closer is closed when the connection
// has ended; a step may still be about to return then.
type Login interface {
	// Step answers a request of the core. It is called by one goroutine at a time and may take long; ctx ends with
	// the connection, and Step must then return soon. The password in r is wiped afterwards.
	Step(ctx context.Context, r *abi.AuthRequest) (mqtt.ReasonCode, abi.AuthAnswer)
}

// Client is what is known of the other side of a connection before it says anything.
type Client struct {
	Listener   string
	Address    netip.AddrPort // not valid for Unix sockets
	User       string         // that the handshake has authenticated, "" if there is none
	Identities []string       // of the policy, that the peer's evidence holds for
	Log        *slog.Logger   // of the connection
	Review     func()         // asks Secured.Recheck now, and ends the connection if it would not be let in any more
}

// auth is the part of a connection that only those have whose clients must log in.
type auth struct {
	login  Login
	gate   gate
	cancel context.CancelFunc // ends the step that runs; nil if none does. It is guarded by conn.mu.
}

// setAuth prepares the login of c's client, and says whether it must log in.
func (e *entrance) setAuth(c *conn, peer *abi.Peer, own func(Client, Login) Login) (must bool) {
	client := Client{
		Listener: peer.Listener, Address: c.address, User: peer.User, Identities: peer.Identities,
		Log: c.log, Review: func() { c.review() },
	}
	var login Login
	if e.config.Login != nil {
		login = e.config.Login(client)
	}
	must = login != nil
	if own != nil {
		login = own(client, login)
	}
	if login == nil {
		return false
	}
	c.mu.Lock() // somebody may abort the connection
	defer c.mu.Unlock()
	c.auth = &auth{login: login, gate: gate{credit: true, open: !must}}
	return must
}

// closeLogin tells the login that the connection has ended.
func (c *conn) closeLogin() {
	if c.auth == nil {
		return
	}
	if closer, ok := c.auth.login.(io.Closer); ok {
		_ = closer.Close() // nothing depends on it any more
	}
}

// authenticate runs one step of the login. data is an abi.AuthRequest. Whoever runs the engine calls it.
func (c *conn) authenticate(data []byte) error {
	request := new(abi.AuthRequest)
	if err := abi.ReadAuthRequest(data, request); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return nil
	}
	if c.auth == nil { // nobody here knows any method
		c.postAuthenticated(mqtt.BadAuthenticationMethod, &abi.AuthAnswer{})
		return nil
	}
	if c.auth.cancel != nil {
		return abi.Fault("effect asks to authenticate a client whose answer is not there yet")
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.auth.cancel = cancel
	c.transport.tasks.Go(func() { c.step(ctx, request) })
	return nil
}

// step is a goroutine. The connection may end meanwhile; the core is then told nothing.
func (c *conn) step(ctx context.Context, request *abi.AuthRequest) {
	reason, answer := c.auth.login.Step(ctx, request)
	clear(request.Password)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.auth.cancel()
	c.auth.cancel = nil
	if !c.dead {
		c.postAuthenticated(reason, &answer)
	}
}

// postAuthenticated tells the core. c.mu is held, so that EventClosed comes afterwards.
func (c *conn) postAuthenticated(reason mqtt.ReasonCode, answer *abi.AuthAnswer) {
	c.transport.engine.PostNow(abi.EventAuthenticated, c.id, c.epoch.Load(), uint32(reason), abi.AppendAuthAnswer(nil, answer))
}
