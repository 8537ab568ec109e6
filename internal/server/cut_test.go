package server_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const (
	cutPublishers = 3
	cutMessages   = 150 // of each publisher
)

// TestCutConnections lets publishers send at QoS 2 to a subscriber while connections are cut wherever they happen to be:
// each message comes exactly once, and those of a publisher in order [MQTT-4.3.3-10], [MQTT-4.6.0-6].
func TestCutConnections(t *testing.T) {
	for _, kind := range engines() {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := start(t, kind, nil)
			sub := &cutClient{r: r, id: "sub", random: rand.New(rand.NewPCG(seed, 0)), known: map[uint16]bool{}}
			sub.subscribe(t)
			var all sync.WaitGroup
			for i := range cutPublishers {
				p := &cutClient{r: r, id: fmt.Sprint("pub", i), random: rand.New(rand.NewPCG(seed, uint64(i+1)))}
				all.Go(func() { p.publishAll() })
				defer func() {
					if p.failed != nil {
						t.Error(p.failed)
					}
				}()
			}
			all.Go(sub.receiveAll)
			all.Wait()
			if sub.failed != nil {
				t.Error(sub.failed)
			}
		})
	}
}

// cutClient is a client with a session that lasts, whose connections do not.
type cutClient struct {
	r      *rig
	id     string
	random *rand.Rand
	known  map[uint16]bool // ids of messages that it has and that are not released
	next   [cutPublishers]int
	failed error
}

// connect opens a connection and resumes the session.
func (c *cutClient) connect() (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", c.r.Addr(server.PlainListener).String())
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(Patience))
	_, err = conn.Write(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, ClientID: []byte(c.id)}))
	in := bufio.NewReader(conn)
	if err == nil {
		_, err = cutPacket(in)
	}
	return conn, in, err
}

// cutPacket reads one packet.
func cutPacket(in *bufio.Reader) ([]byte, error) {
	for n := 2; ; n++ {
		head, err := in.Peek(n)
		if err != nil {
			return nil, err
		}
		if size, ok, fault := mqtt.FrameSize(head); fault != nil {
			return nil, fault.Err()
		} else if ok {
			packet := make([]byte, size)
			_, err = io.ReadFull(in, packet)
			return packet, err
		}
	}
}

func (c *cutClient) subscribe(t *testing.T) {
	conn, in, err := c.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	write(t, conn, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: []byte("cut/#"), QoS: 2}}))
	if _, err := cutPacket(in); err != nil {
		t.Fatal(err)
	}
}

// again calls do with one connection after the other until it says that it is done, or the test has waited too long.
func (c *cutClient) again(do func(conn net.Conn, in *bufio.Reader, packets int) (done bool, fault error)) {
	for deadline := time.Now().Add(3 * Patience); time.Now().Before(deadline); {
		conn, in, err := c.connect()
		done := false
		if err == nil {
			done, err = do(conn, in, c.random.IntN(60))
			c.failed = err
		}
		if conn != nil {
			_ = conn.Close()
		}
		if done || c.failed != nil {
			return
		}
	}
	c.failed = fmt.Errorf("%s has waited too long, next are %v", c.id, c.next)
}

// publishAll publishes messages with the numbers from 0. The packet id is the number and 1, so that the packets that the
// connection was cut in can be sent again.
func (c *cutClient) publishAll() {
	sent, received, complete := 0, 0, 0 // all below have been sent, answered with PUBREC, answered with PUBCOMP
	c.again(func(conn net.Conn, in *bufio.Reader, packets int) (bool, error) {
		for n := complete; n < sent; n++ { // [MQTT-4.4.0-1]
			if n < received {
				_, _ = conn.Write(mqtt.AppendAck(nil, mqtt.V311, mqtt.PUBREL, uint16(n+1), 0, nil))
			} else {
				_, _ = conn.Write(c.packet(n, true))
			}
		}
		for ; packets > 0 && complete < cutMessages; packets-- {
			for ; sent < cutMessages && sent < complete+10; sent++ {
				_, _ = conn.Write(c.packet(sent, false))
			}
			packet, err := cutPacket(in)
			if err != nil {
				return false, nil // cut
			}
			var a mqtt.Ack
			if fault := mqtt.ParseAck(packet, mqtt.V311, &a); fault != nil {
				return false, fault.Err()
			}
			switch n := int(a.PacketID); {
			case a.Type == mqtt.PUBREC && n == received+1:
				received = n
				_, _ = conn.Write(mqtt.AppendAck(nil, mqtt.V311, mqtt.PUBREL, a.PacketID, 0, nil))
			case a.Type == mqtt.PUBCOMP && n == complete+1:
				complete = n
			default:
				return false, fmt.Errorf("%s has got % x, with %d PUBREC and %d PUBCOMP", c.id, packet, received, complete)
			}
		}
		return complete == cutMessages, nil
	})
}

func (c *cutClient) packet(n int, dup bool) []byte {
	return mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{
		Topic: []byte("cut/" + c.id), Payload: fmt.Appendf(nil, "%04d", n), QoS: 2, PacketID: uint16(n + 1), Dup: dup,
	})
}

// receiveAll receives until all messages have come.
func (c *cutClient) receiveAll() {
	c.again(func(conn net.Conn, in *bufio.Reader, packets int) (bool, error) {
		for ; packets > 0 && c.next != [cutPublishers]int{cutMessages, cutMessages, cutMessages}; packets-- {
			packet, err := cutPacket(in)
			if err != nil {
				return false, nil // cut
			}
			if err := c.receive(conn, packet); err != nil {
				return false, err
			}
		}
		return c.next == [cutPublishers]int{cutMessages, cutMessages, cutMessages}, nil
	})
}

// receive takes a packet, and answers it.
func (c *cutClient) receive(conn net.Conn, packet []byte) error {
	if mqtt.TypeOf(packet) == mqtt.PUBREL {
		var a mqtt.Ack
		if fault := mqtt.ParseAck(packet, mqtt.V311, &a); fault != nil {
			return fault.Err()
		}
		delete(c.known, a.PacketID)
		_, _ = conn.Write(mqtt.AppendAck(nil, mqtt.V311, mqtt.PUBCOMP, a.PacketID, 0, nil))
		return nil
	}
	var p mqtt.Publish
	if fault := mqtt.ParseServerPublish(packet, mqtt.V311, &p); fault != nil {
		return fault.Err()
	}
	if c.known[p.PacketID] && !p.Dup {
		return fmt.Errorf("a new message has packet id %d, which is in use: %s", p.PacketID, p.Payload)
	}
	if !c.known[p.PacketID] {
		c.known[p.PacketID] = true
		var from, n int
		if _, err := fmt.Sscanf(string(p.Topic)+" "+string(p.Payload), "cut/pub%d %d", &from, &n); err != nil {
			return err
		}
		if n != c.next[from] {
			return fmt.Errorf("message %d of %s came where %d is next", n, p.Topic, c.next[from])
		}
		c.next[from]++
	}
	_, _ = conn.Write(mqtt.AppendAck(nil, mqtt.V311, mqtt.PUBREC, p.PacketID, 0, nil))
	return nil
}
