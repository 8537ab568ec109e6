// Command paho3 speaks MQTT 3.1.1 to an attested broker with paho.mqtt.golang, and connects again by itself. Each
// connection is verified anew before CONNECT is sent.
//
//	go run ./examples/paho3 -bundle vouchmq-dev/vouchmq.local.bundle -topic plant/1 -message 21.5
//
// It publishes the message and ends when it has come back.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/vouchmq/vouchmq/client"
)

// patience is how long anything may take.
const patience = 20 * time.Second

func main() {
	file := flag.String("bundle", "", "bundle of the broker")
	topic := flag.String("topic", "plant/1", "topic to publish to")
	message := flag.String("message", "21.5", "message to publish")
	flag.Parse()
	if err := run(*file, *topic, *message); err != nil {
		fmt.Fprintln(os.Stderr, "paho3:", err)
		os.Exit(1)
	}
}

func run(file, topic, message string) error {
	bundle, err := client.ReadBundle(file)
	if err != nil {
		return err
	}
	options := mqtt.NewClientOptions().
		AddBroker("tcp://" + bundle.Service). // asked for by paho; the bundle has the addresses
		SetProtocolVersion(4).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return dial(bundle) })
	c := mqtt.NewClient(options)
	if err := wait(c.Connect()); err != nil {
		return err
	}
	defer c.Disconnect(250)
	arrived := make(chan string, 1)
	err = wait(c.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) { arrived <- m.Topic() + " " + string(m.Payload()) }))
	if err != nil {
		return err
	}
	if err := wait(c.Publish(topic, 1, false, message)); err != nil {
		return err
	}
	select {
	case line := <-arrived:
		fmt.Println(line)
		return nil
	case <-time.After(patience):
		return errors.New("the message did not come back")
	}
}

// dial connects and verifies.
func dial(bundle *client.Bundle) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, verdict, err := client.Dial(ctx, bundle, client.Options{})
	if err != nil {
		return nil, err // not conn, which would be an interface that is not nil
	}
	fmt.Print(verdict.Explain())
	return conn, nil
}

func wait(token mqtt.Token) error {
	if !token.WaitTimeout(patience) {
		return errors.New("the broker does not answer")
	}
	return token.Error()
}
