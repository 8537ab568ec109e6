package broker

import (
	"errors"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// FuzzStep gives a core arbitrary batches, cut from the input by sizes in it, and steps through each as the contract
// says. It must not panic, not go round in circles, and write effects that can be read.
func FuzzStep(f *testing.F) {
	config := allowAll()
	connect := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: []byte("a"), CleanStart: true})
	publish := mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("t"), Payload: []byte("x"), QoS: 2, PacketID: 1, Retain: true})
	subscribe := mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{{Topic: []byte("#"), QoS: 2}})
	open := abi.AppendEvent(nil, abi.EventOpen, 1, 0, abi.AppendPeer(nil, &abi.Peer{Listener: "plain"}))
	var packets []byte
	for _, p := range [][]byte{connect, publish, subscribe, publish} {
		packets = abi.AppendEvent(packets, abi.EventPackets, 1, 1, p)
	}
	f.Add(open)
	f.Add(append(open, packets...))
	f.Add(abi.AppendEvent(append(open, packets...), abi.EventShutdown, 0, 0, nil))
	f.Add(abi.AppendEvent(packets, abi.EventConfigure, 0, 0, config))
	for kind := abi.EventConfigure; kind <= abi.EventAcks+1; kind++ {
		f.Add(abi.AppendEvent(append(open, packets...), kind, 1, 0x97, nil))
	}
	run := abi.AppendEvent(append(open, packets...), abi.EventPublishes, 1, 2, append(publish, publish...))
	f.Add(abi.AppendEvent(run, abi.EventAcks, 1, 3, mqtt.AppendAck(nil, mqtt.V5, mqtt.PUBREL, 1, 0, nil)))
	f.Add(abi.AppendEvent(run, abi.EventAcks, 1, 1<<31, mqtt.AppendAck(nil, mqtt.V5, mqtt.PUBREC, 1, 0, nil)))
	asked := abi.AppendEvent(nil, abi.EventOpen, 1, 0, abi.AppendPeer(nil, &abi.Peer{Listener: "plain", Authenticate: true}))
	asked = abi.AppendEvent(asked, abi.EventPackets, 1, 1, connect)
	asked = abi.AppendEvent(asked, abi.EventAuthenticated, 1, 0, abi.AppendAuthAnswer(nil, &abi.AuthAnswer{}))
	f.Add(asked)
	f.Add(abi.AppendEvent(asked, abi.EventAsk, 0, 1, abi.AppendQuestion(nil, &abi.Question{Kind: abi.AskSessions})))
	f.Add(abi.AppendEvent(asked, abi.EventPublish, 0, 0, abi.AppendPublication(nil, &abi.Publication{Topic: "t", Retain: true})))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBencher()
		now := int64(1_000_000)
		for len(data) > 0 {
			n := min(len(data), 16+int(data[0]))
			b.begin()
			now += int64(n) * 37
			abi.PutBatchHeader(b.batch, &abi.BatchHeader{Now: now})
			b.batch = append(b.batch, data[:n]...)
			if len(data) <= 400 { // small inputs also as a whole
				b.batch, n = append(b.batch[:abi.BatchHeaderSize], data...), len(data)
			}
			data = data[n:]
			b.stepThrough(t)
		}
		b.check(t)
	})
}

// stepThrough runs a batch to its end.
func (b *bencher) stepThrough(t *testing.T) {
	start, end := uint32(abi.BatchHeaderSize), uint32(len(b.batch))
	copy(b.core.Batch(end), b.batch)
	for range 10_000 {
		effects := b.core.Step(start, end)
		var h abi.EffectsHeader
		if err := abi.ReadEffectsHeader(effects, &h); err != nil {
			t.Fatal(err)
		}
		var e abi.Effect
		var d abi.Deliver
		for at := abi.EffectsHeaderSize; at < len(effects); {
			next, err := abi.NextEffect(effects, at, &e)
			if err == nil && e.Kind == abi.EffectDeliver {
				err = abi.ReadDeliver(&e, &d)
			}
			if err != nil {
				t.Fatal(err)
			}
			at = next
		}
		if start = h.Consumed; start == end && !h.More {
			return
		}
	}
	t.Fatal("the core does not come to an end")
}

// check looks whether what the core holds is about as much as it was given.
func (b *bencher) check(t *testing.T) {
	if b.core.store.live > 16<<20 {
		t.Errorf("the core keeps %d bytes", b.core.store.live)
	}
}

// FuzzPackets lets a client that is connected, with subscriptions, retained messages and messages in flight, send
// arbitrary packets. All that comes of them must obey the contract and the standard.
func FuzzPackets(f *testing.F) {
	v := mqtt.V5
	filters := []mqtt.Filter{{Topic: []byte("t/+"), QoS: 1}, {Topic: []byte("#"), QoS: 2}}
	for _, p := range [][]byte{
		mqtt.AppendPublish(nil, v, &mqtt.Publish{Topic: []byte("t/1"), Payload: []byte("x"), QoS: 2, PacketID: 1, Retain: true}),
		mqtt.AppendPublish(nil, v, &mqtt.Publish{Topic: []byte("t/1"), Payload: []byte("plain")}),
		mqtt.AppendSubscribe(nil, v, 1, nil, filters),
		mqtt.AppendSubscribe(nil, v, 1, nil, []mqtt.Filter{{Topic: []byte("$share/g/t/+"), QoS: 2}, {Topic: []byte("$share//t"), QoS: 2}}),
		mqtt.AppendUnsubscribe(nil, v, 1, nil, [][]byte{[]byte("t/+")}),
		mqtt.AppendUnsubscribe(nil, v, 1, nil, [][]byte{[]byte("$share/g/t/+"), []byte("$share/g")}),
		mqtt.AppendAck(nil, v, mqtt.PUBACK, 1, 0, nil),
		mqtt.AppendAck(nil, v, mqtt.PUBREC, 2, 0x80, nil),
		mqtt.AppendAck(nil, v, mqtt.PUBREL, 1, 0, nil),
		mqtt.AppendAck(nil, v, mqtt.PUBCOMP, 2, 0, nil),
		mqtt.AppendPingreq(nil),
		mqtt.AppendDisconnect(nil, v, mqtt.DisconnectWithWill, nil),
		mqtt.AppendAuth(nil, 0, nil),
	} {
		for version := range byte(3) {
			f.Add(version, p)
		}
	}
	f.Fuzz(func(t *testing.T, version byte, data []byte) {
		core := New()
		rig := brokertest.New(core)
		limits := brokertest.ScriptLimits
		limits.StepWork, limits.MaxAliasesOut = 1+uint32(version)/3, 3
		limits.MaxModuleMemory = 1 << 20 * uint32(version%2)
		options := abi.Options{CheckPayload: true, Overflow: abi.Overflow(version % 3)}
		rig.Configure(&abi.Config{Limits: limits, Options: options, Rules: []abi.Rule{{
			Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#", "$x/#"}, Subscribe: []string{"#", "$x/#"},
		}}})
		a, b := fuzzClient(rig, "a", mqtt.V31+mqtt.Version(version%3)), fuzzClient(rig, "b", mqtt.V5)
		for i := range byte(3) {
			b.Packets(mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("t/1"), QoS: i, PacketID: uint16(i), Retain: true, Payload: []byte{i}}))
		}
		a.Event(abi.EventPackets, 1, frames(data))
		b.Packets(mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("t/1"), QoS: 1, PacketID: 9, Payload: []byte("after")}))
		if err := rig.Run(); err != nil {
			t.Fatal(err)
		}
		if b.Gone() {
			t.Fatalf("another client was disconnected: %s", b.Why)
		}
		for _, c := range []*brokertest.Conn{a, b} {
			items, err := c.Received()
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range items {
				if item.Mark == "" {
					v := mqtt.V5
					if c == a {
						v = mqtt.V31 + mqtt.Version(version%3)
					}
					if _, err := brokertest.Describe(item.Packet, v); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if err := errors.Join(rig.Advance(3600e9), core.checkGroups()); err != nil {
			t.Fatal(err)
		}
	})
}

func fuzzClient(rig *brokertest.Rig, id string, v mqtt.Version) *brokertest.Conn {
	c := rig.Open(&abi.Peer{Listener: "plain"})
	var props mqtt.Properties
	if v == mqtt.V5 {
		props.Has, props.TopicAliasMaximum = props.Has.With(mqtt.PropTopicAliasMaximum), 2
	}
	c.Packets(
		mqtt.AppendConnect(nil, &mqtt.Connect{Version: v, Props: props, ClientID: []byte(id), HasWill: true, Will: mqtt.Will{Topic: []byte("t/will"), QoS: 1}}),
		mqtt.AppendSubscribe(nil, v, 1, nil, []mqtt.Filter{{Topic: []byte("t/#"), QoS: 2}, {Topic: []byte("$share/g/t/+"), QoS: 1}}),
	)
	return c
}

// frames cuts data into packets: where the length of a packet reaches too far it is mended, as the pump would wait
// for the rest.
func frames(data []byte) (packets []byte) {
	for len(data) >= 2 {
		size, ok, fault := mqtt.FrameSize(data)
		if fault == nil && ok && size <= len(data) {
			packets = append(packets, data[:size]...)
			data = data[size:]
			continue
		}
		n := min(len(data)-2, 127)
		packets = append(packets, data[0], byte(n))
		packets = append(packets, data[2:2+n]...)
		data = data[2+n:]
	}
	return packets
}
