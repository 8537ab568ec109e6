package pubsub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// clientV3 is a client over Paho's library for MQTT 3.1 and 3.1.1.
type clientV3 struct {
	paho mqtt.Client
	conn net.Conn
	end  *ending
	kept bool // the broker has had a session
}

func connectV3(ctx context.Context, conn net.Conn, o *Options) (connection, error) {
	c := &clientV3{conn: conn, end: newEnding()}
	c.paho = mqtt.NewClient(c.options(conn, o))
	o.Log(fmt.Sprintf("sending CONNECT, client id %q", o.ClientID))
	token := c.paho.Connect().(*mqtt.ConnectToken)
	if err := c.wait(ctx, token); err != nil {
		conn.Close()
		if code := token.ReturnCode(); code > 0 && int(code) <= len(returnCodeNames) {
			return nil, &Refusal{What: "the connection", Reason: code, Name: returnCodeName(code)}
		}
		return nil, noConnack(err)
	}
	o.Log(fmt.Sprintf("received CONNACK, session present: %v", token.SessionPresent()))
	c.kept = token.SessionPresent()
	return c, nil
}

func (c *clientV3) options(conn net.Conn, o *Options) *mqtt.ClientOptions {
	opts := mqtt.NewClientOptions().
		AddBroker("tcp://the-connection-is-there-already").
		SetProtocolVersion(uint(o.Version)).
		SetClientID(o.ClientID).
		SetCleanSession(o.CleanStart).
		SetKeepAlive(time.Duration(o.KeepAlive) * time.Second).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(packetTime).
		SetWriteTimeout(packetTime).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { c.lost(err) })
	opts.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return conn, nil })
	if o.User != "" {
		opts.SetUsername(o.User).SetPassword(string(o.Password))
	}
	if w := o.Will; w != nil {
		opts.SetBinaryWill(w.Topic, w.Payload, w.QoS, w.Retain)
	}
	if o.Receive != nil {
		opts.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { o.Receive(messageV3(m)) })
	}
	return opts
}

func messageV3(m mqtt.Message) *Message {
	return &Message{
		Topic:     m.Topic(),
		Payload:   m.Payload(),
		QoS:       m.Qos(),
		Retain:    m.Retained(),
		Duplicate: m.Duplicate(),
		PacketID:  m.MessageID(),
	}
}

func (c *clientV3) lost(err error) {
	c.end.set(fmt.Errorf("%w: %w", ErrLost, err))
}

// wait waits for a token, for the end of the connection, after which the library may leave a token as it is, and for the end of
// ctx, whichever is first.
func (c *clientV3) wait(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-c.end.known:
		return c.end.get()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *clientV3) Publish(ctx context.Context, m *Message) error {
	return c.explain(c.wait(ctx, c.paho.Publish(m.Topic, m.QoS, m.Retain, m.Payload)))
}

func (c *clientV3) Subscribe(ctx context.Context, s []Subscription, _ Properties) ([]byte, error) {
	filters := make(map[string]byte, len(s))
	for _, x := range s {
		filters[x.Filter] = x.QoS
	}
	token := c.paho.SubscribeMultiple(filters, nil).(*mqtt.SubscribeToken)
	if err := c.wait(ctx, token); err != nil && token.Result() == nil {
		return nil, c.explain(err)
	}
	var granted []byte
	var refused error
	for _, x := range s {
		code := token.Result()[x.Filter]
		granted = append(granted, code)
		if code == 0x80 { // MQTT 3.1.1, 3.9.3: failure, without a reason
			refused = errors.Join(refused, &Refusal{What: "the subscription to " + x.Filter, Reason: code, Name: "failure"})
		}
	}
	return granted, refused
}

func (c *clientV3) Unsubscribe(ctx context.Context, filters []string, _ Properties) error {
	return c.explain(c.wait(ctx, c.paho.Unsubscribe(filters...)))
}

// quiesce is how long Disconnect waits for what is still to be written, in milliseconds.
const quiesce = 250

func (c *clientV3) Disconnect(Properties) error {
	c.paho.Disconnect(quiesce)
	c.end.set(ErrLost)
	return nil
}

func (c *clientV3) present() bool { return c.kept }

func (c *clientV3) attestAgain() bool { return false }

func (c *clientV3) abandon(err error) {
	c.end.set(err)
	_ = c.conn.Close()
}

func (c *clientV3) Done() <-chan struct{} { return c.end.known }

func (c *clientV3) Err() error { return c.end.get() }

// explain prefers the reason for which the connection ended to that for which one packet was not answered.
func (c *clientV3) explain(err error) error {
	if end := c.end.get(); err != nil && end != nil {
		return end
	}
	return err
}
