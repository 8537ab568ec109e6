package server_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// The adapter of paho.golang, which leaves the connection to its user.

type paho5Party struct {
	client  *paho5.Client
	conn    net.Conn
	ack     *paho5.Connack
	answers []int
	aliases map[uint16]string // only touched by receive, one message at a time
	box     mailbox
	end     sync.Once
}

func openPaho5(_ testing.TB, r *route) func(testing.TB, joining) party {
	return func(t testing.TB, j joining) party {
		t.Helper()
		// Without it, packets that are sent at once get mixed up on anything but a TCP socket.
		p := &paho5Party{conn: packets.NewThreadSafeConn(dialRoute(t, r)), aliases: map[uint16]string{}}
		p.client = paho5.NewClient(paho5.ClientConfig{
			Conn: p.conn, PacketTimeout: Patience,
			OnPublishReceived: []func(paho5.PublishReceived) (bool, error){p.receive},
		})
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		var err error
		if p.ack, err = p.client.Connect(ctx, connectPacket5(j)); err != nil {
			t.Fatal(err)
		}
		for _, w := range j.Wishes {
			p.subscribe(t, w)
		}
		return p
	}
}

// dialRoute opens what MQTT is spoken over.
func dialRoute(t testing.TB, r *route) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var conn net.Conn
	var err error
	switch r.transport {
	case "tcp":
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", r.host)
	case "tls":
		conn, err = (&tls.Dialer{Config: r.tls}).DialContext(ctx, "tcp", r.host)
	default:
		conn, err = dialWebSocket(ctx, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func dialWebSocket(ctx context.Context, r *route) (net.Conn, error) {
	socket, _, err := websocket.Dial(ctx, r.url(), &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: r.tls}},
	})
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.Background(), socket, websocket.MessageBinary), nil
}

func connectPacket5(j joining) *paho5.Connect {
	c := &paho5.Connect{
		ClientID: j.ID, CleanStart: !j.Resume, KeepAlive: 30,
		Properties: &paho5.ConnectProperties{SessionExpiryInterval: &j.Expiry, TopicAliasMaximum: &j.Aliases},
	}
	if w := j.Will; w != nil {
		c.WillMessage = &paho5.WillMessage{Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain}
	}
	return c
}

func (p *paho5Party) receive(r paho5.PublishReceived) (bool, error) {
	m := r.Packet
	l := letter{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain}
	l.ContentType, l.ResponseTopic, l.Correlation = m.Properties.ContentType, m.Properties.ResponseTopic, m.Properties.CorrelationData
	for _, u := range m.Properties.User {
		l.User = append(l.User, [2]string{u.Key, u.Value})
	}
	if m.Properties.MessageExpiry != nil {
		l.Expiry = *m.Properties.MessageExpiry
	}
	if m.Properties.SubscriptionIdentifier != nil {
		l.Identifiers = []int{*m.Properties.SubscriptionIdentifier}
	}
	if m.Properties.TopicAlias != nil {
		l.Alias = *m.Properties.TopicAlias
		if l.Topic == "" { // paho leaves topic aliases to its user
			l.Topic = p.aliases[l.Alias]
		}
		p.aliases[l.Alias] = l.Topic
	}
	p.box.add(l)
	return true, nil
}

func (p *paho5Party) subscribe(t testing.TB, w wish) {
	t.Helper()
	s := &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: w.Filter, QoS: w.QoS}}}
	if w.Identifier != 0 {
		s.Properties = &paho5.SubscribeProperties{SubscriptionIdentifier: &w.Identifier}
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	ack, err := p.client.Subscribe(ctx, s)
	if ack == nil {
		t.Fatal(err)
	}
	p.answers = append(p.answers, int(ack.Reasons[0]))
}

func (p *paho5Party) publish(t testing.TB, letters ...letter) (reason int) {
	t.Helper()
	for _, l := range letters {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		ack, err := p.client.Publish(ctx, publishPacket5(l))
		cancel()
		if ack == nil {
			t.Fatal(err)
		}
		reason = int(ack.ReasonCode)
	}
	return reason
}

func publishPacket5(l letter) *paho5.Publish {
	m := &paho5.Publish{Topic: l.Topic, Payload: l.Payload, QoS: l.QoS, Retain: l.Retain, Properties: &paho5.PublishProperties{
		ContentType: l.ContentType, ResponseTopic: l.ResponseTopic, CorrelationData: l.Correlation,
	}}
	for _, u := range l.User {
		m.Properties.User.Add(u[0], u[1])
	}
	if l.Expiry != 0 {
		m.Properties.MessageExpiry = &l.Expiry
	}
	if l.Alias != 0 {
		m.Properties.TopicAlias = &l.Alias
	}
	return m
}

func (p *paho5Party) granted() []int     { return p.answers }
func (p *paho5Party) received() *mailbox { return &p.box }

func (p *paho5Party) resumed() int {
	if p.ack.SessionPresent {
		return 1
	}
	return 0
}

func (p *paho5Party) drop() {
	_ = p.conn.Close()
	<-p.client.Done()
}

func (p *paho5Party) leave() {
	p.end.Do(func() {
		_ = p.client.Disconnect(&paho5.Disconnect{})
		<-p.client.Done()
	})
}

// The adapter of paho.mqtt.golang. It opens connections as the client itself does, but keeps them, to cut them off.

type paho3Party struct {
	client  paho3.Client
	conn    net.Conn
	present bool
	answers []int
	box     mailbox
	end     sync.Once
}

func openPaho3(_ testing.TB, r *route) func(testing.TB, joining) party {
	return func(t testing.TB, j joining) party {
		t.Helper()
		p := &paho3Party{}
		p.client = paho3.NewClient(p.options(t, r, j))
		token := p.client.Connect()
		wait3(t, token)
		p.present = token.(*paho3.ConnectToken).SessionPresent()
		for _, w := range j.Wishes {
			p.subscribe(t, w)
		}
		return p
	}
}

func (p *paho3Party) options(t testing.TB, r *route, j joining) *paho3.ClientOptions {
	o := paho3.NewClientOptions().AddBroker(r.url()).SetClientID(j.ID).SetProtocolVersion(4).SetCleanSession(!j.Resume).
		SetAutoReconnect(false).SetTLSConfig(r.tls).SetDefaultPublishHandler(p.receive)
	o.SetCustomOpenConnectionFn(func(u *url.URL, o paho3.ClientOptions) (net.Conn, error) {
		var err error
		if r.transport == "ws" || r.transport == "wss" {
			p.conn, err = paho3.NewWebsocket(u.String(), o.TLSConfig, o.ConnectTimeout, o.HTTPHeaders, o.WebsocketOptions)
			return p.conn, err
		}
		p.conn = dialRoute(t, r)
		return p.conn, nil
	})
	if w := j.Will; w != nil {
		o.SetBinaryWill(w.Topic, w.Payload, w.QoS, w.Retain)
	}
	return o
}

func (p *paho3Party) receive(_ paho3.Client, m paho3.Message) {
	p.box.add(letter{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained()})
}

func (p *paho3Party) subscribe(t testing.TB, w wish) {
	t.Helper()
	token := p.client.Subscribe(w.Filter, w.QoS, nil)
	if !token.WaitTimeout(Patience) {
		t.Fatalf("no answer to the subscription of %s", w.Filter)
	}
	p.answers = append(p.answers, int(token.(*paho3.SubscribeToken).Result()[w.Filter]))
}

func (p *paho3Party) publish(t testing.TB, letters ...letter) int {
	t.Helper()
	for _, l := range letters {
		wait3(t, p.client.Publish(l.Topic, l.QoS, l.Retain, l.Payload))
	}
	return 0
}

func (p *paho3Party) granted() []int     { return p.answers }
func (p *paho3Party) received() *mailbox { return &p.box }

func (p *paho3Party) resumed() int {
	if p.present {
		return 1
	}
	return 0
}

func (p *paho3Party) drop() {
	_ = p.conn.Close()
	p.leave()
}

func (p *paho3Party) leave() {
	p.end.Do(func() { p.client.Disconnect(uint(time.Second.Milliseconds())) })
}
