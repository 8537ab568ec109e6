package pubsub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// clientV5 is a client over Paho's library for MQTT 5.
type clientV5 struct {
	paho   *paho.Client
	conn   net.Conn
	end    *ending
	rounds *reattestation // nil if there are none
	kept   bool           // the broker has had a session
}

func connectV5(ctx context.Context, conn net.Conn, o *Options) (connection, error) {
	c := &clientV5{conn: conn, end: newEnding()}
	config := paho.ClientConfig{
		ClientID:           o.ClientID,
		Conn:               packets.NewThreadSafeConn(conn),
		PacketTimeout:      packetTime,
		OnServerDisconnect: c.disconnected,
		OnClientError:      func(err error) { c.end.set(fmt.Errorf("%w: %w", ErrLost, err)) },
	}
	if o.Receive != nil {
		config.OnPublishReceived = append(config.OnPublishReceived, func(p paho.PublishReceived) (bool, error) {
			o.Receive(messageV5(p.Packet))
			return true, nil
		})
	}
	request := connectPacketV5(o)
	attested := reattestationOf(conn, o, c.end)
	if attested != nil {
		config.AuthHandler, c.rounds = attested, attested
		request.Properties.AuthMethod = client.ReattestMethod
	}
	c.paho = paho.NewClient(config)
	o.Log(fmt.Sprintf("sending CONNECT, client id %q", o.ClientID))
	answer, err := c.paho.Connect(ctx, request)
	if answer != nil && answer.ReasonCode >= 0x80 {
		return nil, refusalV5("the connection", answer.ReasonCode, connackText(answer))
	}
	if err != nil {
		conn.Close()
		return nil, noConnack(err)
	}
	o.Log(fmt.Sprintf("received CONNACK, session present: %v", answer.SessionPresent))
	c.kept = answer.SessionPresent
	if attested != nil {
		go attested.keep(c.paho, answer.Properties.User.Get(client.ReattestProperty))
	}
	return c, nil
}

// noConnack says that the connection ended, or nothing came, before CONNACK.
func noConnack(err error) error { return fmt.Errorf("%w: %w", ErrNoConnack, err) }

func connectPacketV5(o *Options) *paho.Connect {
	p := &paho.Connect{
		ClientID:     o.ClientID,
		KeepAlive:    o.KeepAlive,
		CleanStart:   o.CleanStart,
		Username:     o.User,
		UsernameFlag: o.User != "",
		Password:     o.Password,
		PasswordFlag: o.Password != nil,
		Properties:   o.Properties.connect(),
	}
	if w := o.Will; w != nil {
		p.WillMessage = &paho.WillMessage{Retain: w.Retain, QoS: w.QoS, Topic: w.Topic, Payload: w.Payload}
		p.WillProperties = w.Properties.will()
	}
	return p
}

func messageV5(p *paho.Publish) *Message {
	return &Message{
		Topic:      p.Topic,
		Payload:    p.Payload,
		QoS:        p.QoS,
		Retain:     p.Retain,
		Duplicate:  p.Duplicate(),
		PacketID:   p.PacketID,
		Properties: received(p.Properties),
	}
}

func refusalV5(what string, reason byte, text string) error {
	return &Refusal{What: what, Reason: reason, Name: strings.ToLower(mqtt.ReasonCode(reason).String()), Text: text}
}

func connackText(c *paho.Connack) string {
	if c.Properties == nil {
		return ""
	}
	return c.Properties.ReasonString
}

func (c *clientV5) disconnected(d *paho.Disconnect) {
	text := ""
	if d.Properties != nil {
		text = d.Properties.ReasonString
	}
	c.end.set(refusalV5("to go on", d.ReasonCode, text))
}

func (c *clientV5) Publish(ctx context.Context, m *Message) error {
	ctx, release := c.end.within(ctx)
	defer release()
	answer, err := c.paho.Publish(ctx, &paho.Publish{
		QoS: m.QoS, Retain: m.Retain, Topic: m.Topic, Payload: m.Payload, Properties: m.Properties.publish(),
	})
	if answer != nil && answer.ReasonCode >= 0x80 {
		text := ""
		if answer.Properties != nil {
			text = answer.Properties.ReasonString
		}
		return refusalV5("the message to "+m.Topic, answer.ReasonCode, text)
	}
	return c.explain(err)
}

func (c *clientV5) Subscribe(ctx context.Context, s []Subscription, p Properties) ([]byte, error) {
	request := &paho.Subscribe{Properties: &paho.SubscribeProperties{
		SubscriptionIdentifier: number[int](p, "subscription-identifier"), User: p.user(),
	}}
	for _, x := range s {
		request.Subscriptions = append(request.Subscriptions, paho.SubscribeOptions{
			Topic: x.Filter, QoS: x.QoS, RetainAsPublished: x.RetainAsPublished,
		})
	}
	ctx, release := c.end.within(ctx)
	defer release()
	answer, err := c.paho.Subscribe(ctx, request)
	if answer == nil {
		return nil, c.explain(err)
	}
	var refused error
	for i, code := range answer.Reasons {
		if code >= 0x80 && i < len(s) {
			refused = errors.Join(refused, refusalV5("the subscription to "+s[i].Filter, code, subackText(answer)))
		}
	}
	return answer.Reasons, refused
}

func subackText(s *paho.Suback) string {
	if s.Properties == nil {
		return ""
	}
	return s.Properties.ReasonString
}

func (c *clientV5) Unsubscribe(ctx context.Context, filters []string, p Properties) error {
	ctx, release := c.end.within(ctx)
	defer release()
	_, err := c.paho.Unsubscribe(ctx, &paho.Unsubscribe{
		Topics: filters, Properties: &paho.UnsubscribeProperties{User: p.user()},
	})
	return c.explain(err)
}

func (c *clientV5) Disconnect(p Properties) error {
	d := &paho.Disconnect{}
	if len(p) > 0 {
		d.Properties = &paho.DisconnectProperties{
			SessionExpiryInterval: number[uint32](p, "session-expiry-interval"), User: p.user(),
		}
	}
	err := c.paho.Disconnect(d)
	c.end.set(ErrLost)
	return err
}

func (c *clientV5) present() bool { return c.kept }

func (c *clientV5) attestAgain() bool {
	if c.rounds == nil {
		return false
	}
	c.rounds.Hurry()
	return true
}

func (c *clientV5) abandon(err error) {
	c.end.set(err)
	_ = c.conn.Close()
}

// Done is not that of the library, which tells why a connection ended only after it has closed its own.
func (c *clientV5) Done() <-chan struct{} { return c.end.known }

func (c *clientV5) Err() error { return c.end.get() }

// explain prefers the reason for which the connection ended to what the library makes of it.
func (c *clientV5) explain(err error) error {
	if end := c.end.get(); err != nil && end != nil {
		return end
	}
	return err
}
