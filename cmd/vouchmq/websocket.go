package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

// overWebSocket begins WebSocket on a connection, which it closes if that fails.
func overWebSocket(ctx context.Context, conn net.Conn) (net.Conn, error) {
	use := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	options := websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, // [MQTT-6.0.0-3] [MQTT311-6.0.0-3]
		HTTPClient:   &http.Client{Transport: &http.Transport{DialContext: use}},
	}
	socket, _, err := websocket.Dial(ctx, "ws://"+hostOf(conn.RemoteAddr())+"/mqtt", &options) // TLS is below it
	if err != nil {
		return nil, errors.Join(withHint(fmt.Errorf("%w: WebSocket: %w", errNoConnection, err), "is this a listener of kind ws or wss?"), conn.Close())
	}
	if socket.Subprotocol() != "mqtt" {
		return nil, errors.Join(fmt.Errorf("%w: the server speaks WebSocket, but not MQTT over it", errNoConnection), socket.CloseNow())
	}
	socket.SetReadLimit(-1) // packets have limits of their own
	return websocket.NetConn(context.Background(), socket, websocket.MessageBinary), nil
}

// hostOf is what the request names as its host.
func hostOf(address net.Addr) string {
	if address.Network() == "unix" {
		return "localhost"
	}
	return address.String()
}
