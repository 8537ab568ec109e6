package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/client"
)

func ExampleDial() {
	bundle, err := client.ReadBundle("plant.bundle")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, verdict, err := client.Dial(ctx, bundle, client.Options{})
	switch {
	case errors.Is(err, attest.ErrModule):
		fmt.Println("the broker runs another program:", err)
		return
	case errors.Is(err, attest.ErrBinding):
		fmt.Println("somebody is in the middle:", err)
		return
	case err != nil:
		fmt.Println(err)
		return
	}
	defer conn.Close()
	fmt.Print(verdict.Explain())
	// conn is a net.Conn for any MQTT library: nothing has been sent over it yet.
}

// keeper is what Paho's library asks when AUTH comes: see paho.Auther.
type keeper struct{ *client.Reattester }

func (keeper) Authenticated() {}

func (k keeper) Authenticate(a *paho.Auth) *paho.Auth {
	// After an error the connection is closed, and what is returned here goes nowhere.
	answer, _ := k.Answer(context.Background(), a.Properties.AuthData)
	return auth(0x18, answer)
}

func auth(reason byte, data []byte) *paho.Auth {
	return &paho.Auth{ReasonCode: reason, Properties: &paho.AuthProperties{AuthMethod: client.ReattestMethod, AuthData: data}}
}

// A client over Paho's library for MQTT 5 that attests again as often as the broker demands it.
func ExampleReattester() {
	bundle, err := client.ReadBundle("plant.bundle")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	conn, _, err := client.Dial(ctx, bundle, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	again := client.NewReattester(conn)
	mqtt := paho.NewClient(paho.ClientConfig{ClientID: "sensor-7", Conn: conn, AuthHandler: keeper{again}})
	ack, err := mqtt.Connect(ctx, &paho.Connect{
		ClientID: "sensor-7", CleanStart: true, KeepAlive: 60,
		Properties: &paho.ConnectProperties{AuthMethod: client.ReattestMethod},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// In a goroutine of its own, as long as the connection stands.
	err = again.Keep(ctx, ack.Properties.User.Get(client.ReattestProperty), func(ctx context.Context, data []byte) (string, error) {
		done, err := mqtt.Authenticate(ctx, auth(0x19, data))
		if err != nil {
			return "", err
		}
		return done.Properties.User.Get(client.ReattestProperty), nil
	})
	fmt.Println("the connection is not attested any more:", err)
}
