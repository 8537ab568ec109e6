// Command paho5 speaks MQTT 5 to an attested broker with paho.golang, and connects again by itself. Each connection is
// verified anew before CONNECT is sent.
//
//	go run ./examples/paho5 -bundle vouchmq-dev/vouchmq.local.bundle -topic plant/1 -message 21.5
//
// It publishes the message and ends when it has come back.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/vouchmq/vouchmq/client"
)

func main() {
	file := flag.String("bundle", "", "bundle of the broker")
	topic := flag.String("topic", "plant/1", "topic to publish to")
	message := flag.String("message", "21.5", "message to publish")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := run(ctx, *file, *topic, *message); err != nil {
		fmt.Fprintln(os.Stderr, "paho5:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file, topic, message string) error {
	bundle, err := client.ReadBundle(file)
	if err != nil {
		return err
	}
	arrived, failed := make(chan string, 1), make(chan error, 1)
	connection, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{{Scheme: "mqtts", Host: bundle.Service}}, // asked for by autopaho; the bundle has the addresses
		KeepAlive:  30,
		AttemptConnection: func(ctx context.Context, _ autopaho.ClientConfig, _ *url.URL) (net.Conn, error) {
			conn, verdict, err := client.Dial(ctx, bundle, client.Options{})
			if err != nil {
				return nil, err
			}
			fmt.Print(verdict.Explain())
			// paho writes from several goroutines, and wants a lock around each packet.
			return packets.NewThreadSafeConn(conn), nil
		},
		OnConnectionUp: func(c *autopaho.ConnectionManager, _ *paho.Connack) {
			go func() { // it must not block
				if err := exchange(ctx, c, topic, message); err != nil {
					failed <- err
				}
			}()
		},
		// A program that runs for ever would log this and let autopaho try again.
		OnConnectError: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
		ClientConfig: paho.ClientConfig{
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				arrived <- p.Packet.Topic + " " + string(p.Packet.Payload)
				return true, nil
			}},
		},
	})
	if err != nil {
		return err
	}
	select {
	case line := <-arrived:
		fmt.Println(line)
		return connection.Disconnect(ctx)
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func exchange(ctx context.Context, c *autopaho.ConnectionManager, topic, message string) error {
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}}); err != nil {
		return err
	}
	_, err := c.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(message)})
	return err
}
