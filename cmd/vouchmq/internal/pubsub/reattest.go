package pubsub

import (
	"context"
	"fmt"
	"net"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/client"
)

// reattestation keeps a connection of attested TLS attested, as often as the broker demands. It is what Paho's library
// asks when AUTH comes.
type reattestation struct {
	*client.Reattester
	conn   *atls.Conn
	end    *ending
	log    func(string)
	notice func(string)
}

// reattestationOf returns nil if there is nothing to attest again, or the user wants another method.
func reattestationOf(conn net.Conn, o *Options, end *ending) *reattestation {
	attested, ok := conn.(*atls.Conn)
	if !ok || o.Properties.Has("authentication-method") {
		return nil
	}
	r := client.NewReattester(attested)
	if r == nil {
		return nil
	}
	return &reattestation{Reattester: r, conn: attested, end: end, log: o.Log, notice: o.Notice}
}

// keep runs until the connection ends. after is what CONNACK says of the first round.
func (r *reattestation) keep(c *paho.Client, after string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-r.end.known:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := r.Keep(ctx, after, func(ctx context.Context, data []byte) (string, error) {
		before := r.config()
		done, err := c.Authenticate(ctx, authPacket(packets.AuthReauthenticate, data))
		if err != nil {
			return "", err
		}
		r.log("the broker has been verified again")
		if now := r.config(); now != before {
			r.notice(fmt.Sprintf("the broker has been verified again, and has another configuration now: %v", now))
		}
		return done.Properties.User.Get(client.ReattestProperty), nil
	})
	if err != nil {
		r.end.set(err)
	}
}

// config is the configuration that the broker's latest evidence claims.
func (r *reattestation) config() (d attest.Digest) {
	if v := r.conn.Peer().Verdict; v != nil && v.Facts != nil {
		d = v.Facts.Config
	}
	return d
}

// Authenticate implements paho.Auther. If the broker is not what it should be the connection is closed, and what is
// returned goes nowhere.
func (r *reattestation) Authenticate(a *paho.Auth) *paho.Auth {
	ctx, cancel := context.WithTimeout(context.Background(), packetTime)
	defer cancel()
	answer, err := r.Answer(ctx, a.Properties.AuthData)
	if err != nil {
		r.end.set(err)
	}
	return authPacket(packets.AuthContinueAuthentication, answer)
}

// Authenticated implements paho.Auther.
func (r *reattestation) Authenticated() {}

func authPacket(reason byte, data []byte) *paho.Auth {
	return &paho.Auth{ReasonCode: reason, Properties: &paho.AuthProperties{AuthMethod: client.ReattestMethod, AuthData: data}}
}
