package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

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
