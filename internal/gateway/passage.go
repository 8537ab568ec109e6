package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// smallestMaximum is the least maximum packet size of a client for which the gateway attests again: the broker keeps to it
// with its evidence, too.
const smallestMaximum = 64 << 10

// passage carries one client over a connection on which gateway and broker attest again. Towards the broker it always is
// MQTT 5 with the method of re-attestation; the client sees none of that.
type passage struct {
	*standing
	watch   *watch
	log     *slog.Logger
	connect mqtt.Connect // as the client has sent it, with the version that it speaks
	client  *frames
	broker  *frames
	local   *wire
	remote  *wire
	grace   time.Duration

	opened chan struct{} // closed when CONNACK has come, or never will
	auths  chan auth     // AUTH of the broker
	pings  pings

	mu      sync.Mutex
	telling bool // CONNACK has gone to the client, and no DISCONNECT
	refused bool // this side has ended the connection
}

// passage reads the CONNECT of a client, whose stream begins with head. If it is nil there cannot be rounds for this client,
// and whole is its stream, to be carried as it is.
func (g *gateway) passage(ctx context.Context, s *standing, local, remote net.Conn, head []byte) (p *passage, whole io.Reader, err error) {
	out := newWire(remote)
	stream := newFrames(&patient{io.MultiReader(bytes.NewReader(head), local), out}, maxConnect)
	var packet []byte
	err = g.inTime(ctx, local, func() (err error) {
		packet, err = stream.next()
		return err
	})
	switch {
	case errors.Is(err, errTooLarge): // the broker will say so
		return nil, stream.r, nil
	case err != nil:
		return nil, nil, fmt.Errorf("client ended before its CONNECT was whole: %w", err)
	}
	packet = bytes.Clone(packet) // the parsed CONNECT is parts of it
	p = &passage{
		standing: s, watch: &g.watch, client: stream, local: newWire(local), remote: out, grace: g.Grace,
		opened: make(chan struct{}), auths: make(chan auth, 1),
	}
	p.broker = newFrames(&patient{remote, p.local}, mqtt.MaxPacketSize)
	if mqtt.ParseConnect(packet, &p.connect) != nil || s.again == nil || !canAttest(&p.connect) {
		return nil, io.MultiReader(bytes.NewReader(packet), stream.r), nil
	}
	return p, nil, nil
}

// canAttest reports whether the CONNECT of a client leaves room for the method of the gateway: a connection has one at
// most (4.12).
func canAttest(c *mqtt.Connect) bool {
	small := c.Props.Has.Has(mqtt.PropMaximumPacketSize) && c.Props.MaximumPacketSize < smallestMaximum
	return c.Version < mqtt.V5 || !c.Props.Has.Has(mqtt.PropAuthenticationMethod) && !small
}

// request is the client's CONNECT as the broker gets it.
func (p *passage) request() []byte {
	c := p.connect
	if c.Version < mqtt.V5 {
		translateConnect(&c)
	}
	c.Props.Has = c.Props.Has.With(mqtt.PropAuthenticationMethod)
	c.Props.AuthenticationMethod = []byte(client.ReattestMethod)
	return mqtt.AppendConnect(nil, &c)
}

// run carries packets until both ways have ended, and returns how many bytes.
func (p *passage) run(ctx context.Context) (up, down int64) {
	ctx, cancel := context.WithCancel(ctx)
	var ways, keeping sync.WaitGroup
	defer p.remote.conn.Close()
	begun := make(chan string, 1)
	keeping.Go(func() {
		select {
		case after := <-begun:
			keeping.Go(func() { p.ping(ctx) })
			p.keep(ctx, after)
		case <-ctx.Done():
		}
	})
	ways.Go(func() {
		p.report("client", p.carryUp())
		cancel()
		keeping.Wait() // before the last word
		p.remote.end()
		hurry(p.remote.conn, p.local.conn, p.grace)
	})
	ways.Go(func() {
		p.report("broker", p.carryDown(begun))
		cancel()
		keeping.Wait() // it may have to say why
		p.local.end()
		hurry(p.local.conn, p.remote.conn, p.grace)
	})
	ways.Wait()
	if p.isRefused() {
		_ = p.local.conn.SetReadDeadline(time.Now().Add(farewellTime))
		_, _ = io.CopyN(io.Discard, p.local.conn, farewellBytes)
	}
	return p.remote.sent, p.local.sent
}

// report says in the log what was wrong with a stream.
func (p *passage) report(whose string, err error) {
	var fault *mqtt.Fault
	if errors.As(err, &fault) || errors.Is(err, errTooLarge) {
		p.log.Info("connection ends", "fault_of", whose, "reason", err)
	}
}

// carryUp carries what the client says.
func (p *passage) carryUp() error {
	if err := p.remote.send(p.request()); err != nil {
		return err
	}
	<-p.opened // what a broker may be told is known then
	old := translator{version: p.connect.Version}
	for {
		packet, err := p.client.next()
		if err == nil {
			p.pings.heard()
			packet, err = p.toBroker(&old, packet)
		}
		switch {
		case errors.Is(err, errTooLarge):
			p.tell(mqtt.PacketTooLarge)
			return err
		case isFault(err):
			p.tell(mqtt.ProtocolError)
			return err
		case err != nil:
			return err
		}
		if err := p.remote.write(packet); err != nil {
			return err
		}
	}
}

func isFault(err error) bool {
	var fault *mqtt.Fault
	return errors.As(err, &fault) || errors.Is(err, errMisplaced)
}

// toBroker is a packet of the client as the broker gets it. AUTH is for those who have named a method (4.12).
func (p *passage) toBroker(old *translator, packet []byte) ([]byte, error) {
	switch {
	case p.connect.Version < mqtt.V5:
		return old.up(packet)
	case mqtt.TypeOf(packet) == mqtt.AUTH:
		return nil, errMisplaced
	}
	return packet, nil
}

// carryDown carries what the broker says. begun gets CONNACK's word on the first round.
func (p *passage) carryDown(begun chan<- string) error {
	after, err := p.open()
	close(p.opened)
	if err != nil {
		return err
	}
	begun <- after
	old := translator{version: p.connect.Version}
	for {
		packet, err := p.broker.next()
		if err != nil {
			return err
		}
		if packet, err = p.toClient(&old, packet); err != nil {
			return err
		}
		if err := p.local.write(packet); err != nil {
			return err
		}
	}
}

// toClient is a packet of the broker as the client gets it, empty if it is not the client's.
func (p *passage) toClient(old *translator, packet []byte) ([]byte, error) {
	switch kind := mqtt.TypeOf(packet); {
	case kind == mqtt.AUTH:
		return nil, p.take(packet)
	case kind == mqtt.PINGRESP && p.pings.own():
		return nil, nil
	case p.connect.Version < mqtt.V5:
		return old.down(packet)
	case kind == mqtt.DISCONNECT:
		p.told()
	}
	return packet, nil
}

// errRefused says that the broker has refused the client, which has been told.
var errRefused = errors.New("the broker refuses the client")

// open handles the broker's answer to CONNECT. It returns when the first round is due.
func (p *passage) open() (after string, err error) {
	packet, err := p.broker.next()
	if err != nil {
		return "", err
	}
	var ack mqtt.Connack
	if fault := mqtt.ParseConnack(packet, mqtt.V5, &ack); fault != nil {
		return "", fault.Err()
	}
	p.client.most = mqtt.MaxPacketSize
	if ack.Props.Has.Has(mqtt.PropMaximumPacketSize) {
		p.client.most = int(ack.Props.MaximumPacketSize)
	}
	after = cutReattestation(&ack.Props)
	if err := p.local.send(mqtt.AppendConnack(nil, p.connect.Version, &ack)); err != nil {
		return "", err
	}
	if ack.Reason != mqtt.Success {
		return "", errRefused
	}
	p.mu.Lock()
	p.telling = true
	p.mu.Unlock()
	p.pings.open(p.connect, &ack.Props)
	return after, nil
}

// cutReattestation takes out of properties what is about re-attestation, and returns when the next round is due.
func cutReattestation(p *mqtt.Properties) (after string) {
	p.Has = p.Has.Without(mqtt.PropAuthenticationMethod).Without(mqtt.PropAuthenticationData)
	if !p.Has.Has(mqtt.PropUserProperty) {
		return ""
	}
	var others []byte
	for raw := p.User; ; {
		key, value, ok := mqtt.NextUser(&raw)
		switch {
		case !ok:
			if p.User = others; len(others) == 0 {
				p.Has = p.Has.Without(mqtt.PropUserProperty)
			}
			return after
		case string(key) == client.ReattestProperty:
			after = string(value)
		default:
			others = mqtt.AppendUser(others, key, value)
		}
	}
}

// tell ends the client's connection with a reason, if its version has one, and the broker's without a word.
func (p *passage) tell(reason mqtt.ReasonCode) {
	p.mu.Lock()
	speak := p.telling
	p.telling, p.refused = false, true
	p.mu.Unlock()
	_ = p.local.conn.SetWriteDeadline(time.Now().Add(farewellTime))
	if speak && p.connect.Version >= mqtt.V5 {
		_ = p.local.send(mqtt.AppendDisconnect(nil, p.connect.Version, reason, nil))
	}
	_ = p.local.conn.SetReadDeadline(past)
	_ = p.remote.conn.Close()
}

// told says that the client learns from the broker that its connection ends.
func (p *passage) told() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.telling = false
}

func (p *passage) isRefused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}
