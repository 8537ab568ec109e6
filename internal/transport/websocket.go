package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/coder/websocket"
)

// webSocket is the stream of MQTT inside the binary frames of a WebSocket connection. Packets may span frames or
// share one [MQTT-6.0.0-2]. Its deadlines are those of the stream below; after one has passed, the connection can
// only be closed.
//
// Pings are answered by whoever reads. A client that takes no answer for five seconds is ended by the library.
type webSocket struct {
	net.Conn // below: TLS or the socket
	frames   *websocket.Conn
	message  io.Reader // what is left of a message; nil between two
}

// errTextFrame ends a connection on which a text frame came.
var errTextFrame = errors.New("the client sent a text frame; MQTT travels in binary frames")

// closeTimeout bounds the wait for the other side to answer our closing a connection that breaks the protocol.
const closeTimeout = 2 * time.Second

func newWebSocket(frames *websocket.Conn, stream net.Conn) *webSocket {
	frames.SetReadLimit(-1) // the pump bounds packets; a message may hold many
	return &webSocket{Conn: stream, frames: frames}
}

// Read returns bytes of one frame.
func (w *webSocket) Read(b []byte) (int, error) {
	for {
		if w.message == nil {
			if err := w.next(); err != nil {
				return 0, err
			}
		}
		n, err := w.message.Read(b)
		if errors.Is(err, io.EOF) {
			w.message, err = nil, nil
		}
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
	}
}

// next begins the next message.
func (w *webSocket) next() error {
	kind, message, err := w.frames.Reader(context.Background())
	if err != nil {
		if websocket.CloseStatus(err) != -1 { // the other side said goodbye
			return io.EOF
		}
		return err
	}
	if kind != websocket.MessageBinary { // [MQTT-6.0.0-1]
		_ = w.Conn.SetDeadline(time.Now().Add(closeTimeout)) // fails only if it is closed
		_ = w.frames.Close(websocket.StatusUnsupportedData, errTextFrame.Error())
		return errTextFrame
	}
	w.message = message
	return nil
}

// Write sends b as one binary frame [MQTT-6.0.0-1].
func (w *webSocket) Write(b []byte) (int, error) {
	if err := w.frames.Write(context.Background(), websocket.MessageBinary, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite says goodbye, waits for the other side to do the same while the pump reads, and closes the connection.
func (w *webSocket) CloseWrite() error {
	return w.frames.Close(websocket.StatusNormalClosure, "")
}

// release frees what the library holds, once the stream is closed and the pump has ended.
func (w *webSocket) release() {
	_ = w.frames.CloseNow() // says only that it is closed
}
