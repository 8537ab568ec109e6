// Package pubsub is an MQTT client as the commands pub and sub need it: versions 3.1, 3.1.1 and 5.0 behind one
// interface, over a connection that somebody else has opened, be it plain, TLS or attested.
//
// [Connect] sends CONNECT and waits for CONNACK; [Last] does so again and again, as one connection takes the place of another. What comes for subscriptions is handed to Options.Receive, one
// message at a time and in order; a message at QoS 1 or 2 is acknowledged when Receive has returned.
//
// The protocol itself is Eclipse Paho's: two libraries, one for each generation of MQTT.
package pubsub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Version is the protocol level of CONNECT.
type Version byte

// Versions of MQTT.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// ParseVersion reads a version in any of the ways of mosquitto_pub.
func ParseVersion(s string) (Version, error) {
	switch s {
	case "5", "mqttv5":
		return V5, nil
	case "311", "mqttv311":
		return V311, nil
	case "31", "mqttv31":
		return V31, nil
	}
	return 0, fmt.Errorf("unknown protocol version %q: use mqttv5, mqttv311 or mqttv31", s)
}

// Options are what a client says in CONNECT, and what it does with messages.
type Options struct {
	Version    Version
	ClientID   string // "" lets the broker choose
	KeepAlive  uint16 // seconds
	CleanStart bool
	User       string
	Password   []byte   // nil for none
	Will       *Message // nil for none
	Properties Properties
	Receive    func(*Message) // nil if there are no subscriptions
	Log        func(string)   // what goes on; nil for silence
	Notice     func(string)   // what a person should know that goes on; nil for silence
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	return o
}

// cleanAgain says whether a connection that takes the place of another begins a session anew: not if the session outlives its connections.
func (o *Options) cleanAgain() bool {
	outlives := o.Version == V5 && slices.ContainsFunc(o.Properties, func(p Property) bool { return p.Name == "session-expiry-interval" && p.Value != "0" })
	return o.CleanStart && !outlives
}

// Message is an application message, to be sent or received.
type Message struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Retain     bool
	Duplicate  bool       // received ones only
	PacketID   uint16     // received ones only
	Properties Properties // MQTT 5 only
}

// Subscription is one topic filter of SUBSCRIBE.
type Subscription struct {
	Filter            string
	QoS               byte
	RetainAsPublished bool // MQTT 5 only
}

// Client is a connection on which CONNACK has been received.
type Client interface {
	// Publish returns when the message has been handed over as its QoS demands.
	Publish(ctx context.Context, m *Message) error
	// Subscribe returns the QoS granted for each subscription.
	Subscribe(ctx context.Context, s []Subscription, p Properties) ([]byte, error)
	Unsubscribe(ctx context.Context, filters []string, p Properties) error
	// Disconnect ends the connection in good order: the will is not sent.
	Disconnect(p Properties) error
	// Done is closed when the connection has ended, by whomever, and it is known why.
	Done() <-chan struct{}
	// Err says why, once Done is closed: a *Refusal if the broker said so, else an ErrLost.
	Err() error
}

// connection is a Client over one connection.
type connection interface {
	Client
	present() bool     // the broker has had a session for the client
	attestAgain() bool // has both sides attest again on the connection; false if that is not possible
	abandon(error)     // closes the connection at once, for a reason
}

// How a connection ends without a reason given by the broker.
var (
	ErrLost      = errors.New("the connection was lost")
	ErrNoConnack = errors.New("the broker gave no answer to CONNECT")
)

// Refusal is a refusal by the broker, with its reason.
type Refusal struct {
	What   string // "the connection", "the subscription to a/b", ...
	Reason byte   // a reason code of MQTT 5, or a return code of MQTT 3
	Name   string // what the code means
	Text   string // the broker's own words, if it sent any
}

func (r *Refusal) Error() string {
	s := fmt.Sprintf("the broker refused %s: %s (0x%02X)", r.What, r.Name, r.Reason)
	if r.Text != "" {
		s += ": " + r.Text
	}
	return s
}

// passes says whether a client that was refused so may well be let in a little later.
func (r *Refusal) passes() bool {
	const serverUnavailable3 = 3 // return code of MQTT 3
	switch r.Reason {
	case serverUnavailable3, byte(mqtt.UnspecifiedError), byte(mqtt.ServerUnavailable), byte(mqtt.ServerBusy), byte(mqtt.ServerShuttingDown),
		byte(mqtt.KeepAliveTimeout), byte(mqtt.QuotaExceeded), byte(mqtt.ConnectionRateExceeded), byte(mqtt.MaximumConnectTime):
		return true
	}
	return false
}

// packetTime is how long a client waits for the answer to a packet.
const packetTime = 30 * time.Second

// Connect sends CONNECT on conn and waits for CONNACK. It closes conn if it fails.
func Connect(ctx context.Context, conn net.Conn, o Options) (Client, error) {
	c, err := connect(ctx, conn, o.withDefaults())
	if err != nil {
		return nil, err
	}
	return c, nil
}

func connect(ctx context.Context, conn net.Conn, o Options) (connection, error) {
	ctx, cancel := context.WithTimeout(ctx, packetTime)
	defer cancel()
	if o.Version == V5 {
		return connectV5(ctx, conn, &o)
	}
	return connectV3(ctx, conn, &o)
}
