package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// WebSocket says how MQTT is spoken over WebSocket (MQTT 5.0, section 6; RFC 6455): an HTTP request asks for it, and
// from then on MQTT's bytes travel in binary frames. Nothing is compressed.
type WebSocket struct {
	Path string // of the request; "" is /mqtt
	// Origins are the web pages that may connect besides those of the same host: a host pattern such as
	// "*.example.com", or with a scheme "https://app.example.com"; "*" is any. Programs that are no browsers name no
	// origin and are not asked for one.
	Origins []string
}

// Bounds of the request.
const (
	maxRequest    = 16 << 10 // bytes
	requestBuffer = 4 << 10
)

// subprotocols are what a client may ask for: the standard's name, and what some clients send for MQTT 3.1.
var subprotocols = []string{"mqtt", "mqttv3.1"}

func (w *WebSocket) check() error {
	if w.Path != "" && !strings.HasPrefix(w.Path, "/") {
		return fmt.Errorf("the WebSocket path %q does not begin with /", w.Path)
	}
	for _, origin := range w.Origins {
		if _, err := path.Match(origin, ""); err != nil {
			return fmt.Errorf("the WebSocket origin %q is no pattern: %w", origin, err)
		}
	}
	return nil
}

// upgrade answers the HTTP request on stream, and returns what MQTT is spoken over. The deadline of stream bounds it.
func (w *WebSocket) upgrade(stream net.Conn) (net.Conn, error) {
	limited := &io.LimitedReader{R: stream, N: maxRequest}
	reader := bufio.NewReaderSize(limited, requestBuffer)
	answer := &response{stream: stream, header: http.Header{}}
	if first, err := reader.Peek(1); err == nil && !isUpper(first[0]) { // MQTT without WebSocket has no line to wait for
		return nil, answer.refuse(http.StatusBadRequest, "this is no HTTP request")
	}
	request, err := http.ReadRequest(reader)
	if err != nil {
		if limited.N <= 0 {
			return nil, answer.refuse(http.StatusRequestHeaderFieldsTooLarge, "the request is too large")
		}
		if isEnd(err) {
			return nil, fmt.Errorf("no whole HTTP request came: %w", err)
		}
		return nil, answer.refuse(http.StatusBadRequest, "this is no HTTP request")
	}
	if status, text := w.judge(request); status != 0 {
		return nil, answer.refuse(status, text)
	}
	answer.stream = unread(stream, reader)
	conn, err := websocket.Accept(answer, request, &websocket.AcceptOptions{
		Subprotocols: subprotocols, OriginPatterns: w.Origins, InsecureSkipVerify: slices.Contains(w.Origins, "*"),
	})
	if err != nil {
		return nil, errors.Join(err, answer.finish())
	}
	return newWebSocket(conn, stream), nil
}

// isUpper says whether the name of a method may begin with b: all begin with a capital letter.
func isUpper(b byte) bool { return 'A' <= b && b <= 'Z' }

// isEnd says that reading ended, in time or not, rather than that what was read is wrong.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(net.Error))
}

// judge says what is wrong with a request, as far as the library does not: status 0 is nothing.
func (w *WebSocket) judge(r *http.Request) (status int, text string) {
	want := w.Path
	if want == "" {
		want = "/mqtt"
	}
	switch {
	case r.URL.Path != want:
		return http.StatusNotFound, "there is nothing at this path; MQTT over WebSocket is at " + want
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return http.StatusBadRequest, "a request for WebSocket has no body"
	case r.Header.Get("Upgrade") != "" && !offersMQTT(r.Header.Values("Sec-WebSocket-Protocol")):
		return http.StatusBadRequest, "the client must offer the WebSocket sub-protocol mqtt" // [MQTT-6.0.0-3]
	}
	return 0, ""
}

// offersMQTT says whether one of the sub-protocols in the values of the header is MQTT.
func offersMQTT(values []string) bool {
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			if slices.Contains(subprotocols, strings.ToLower(strings.TrimSpace(name))) {
				return true
			}
		}
	}
	return false
}

// response writes the answer to a request. It is what the library needs of a server.
type response struct {
	stream net.Conn
	header http.Header
	status int
	body   bytes.Buffer
	err    error
}

func (r *response) Header() http.Header { return r.header }

func (r *response) Write(b []byte) (int, error) { return r.body.Write(b) }

// WriteHeader writes the answer that agrees; one that refuses waits for its body.
func (r *response) WriteHeader(status int) {
	if r.status = status; status == http.StatusSwitchingProtocols {
		var b bytes.Buffer
		b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
		_ = r.header.Write(&b) // a buffer takes everything
		b.WriteString("\r\n")
		_, r.err = r.stream.Write(b.Bytes())
	}
}

// Sizes of the buffers of a WebSocket connection. They hold frames' headers, and small frames; what is larger goes
// past them.
const (
	frameReadBuffer  = 1 << 10
	frameWriteBuffer = 512
)

// Hijack gives the stream to the library, with buffers smaller than those of package http: a connection keeps them.
func (r *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	buffers := bufio.NewReadWriter(bufio.NewReaderSize(r.stream, frameReadBuffer), bufio.NewWriterSize(r.stream, frameWriteBuffer))
	return r.stream, buffers, r.err
}

// refuse answers with an error status, and returns what to log.
func (r *response) refuse(status int, text string) error {
	http.Error(r, text, status)
	err := fmt.Errorf("HTTP request refused with %d: %s", status, text)
	return errors.Join(err, r.finish())
}

// Bounds of what is read behind a request that was refused: with unread bytes, closing would make TCP throw away the
// answer.
const (
	maxUnread  = 64 << 10
	unreadTime = time.Second
)

// finish writes an answer that refuses. The connection is to be closed behind it.
func (r *response) finish() error {
	if r.status == http.StatusSwitchingProtocols {
		return nil
	}
	answer := http.Response{
		StatusCode: r.status, ProtoMajor: 1, ProtoMinor: 1, Header: r.header, Close: true,
		ContentLength: int64(r.body.Len()), Body: io.NopCloser(&r.body),
	}
	if err := answer.Write(r.stream); err != nil {
		return err
	}
	if w, ok := r.stream.(closeWriter); ok {
		_ = w.CloseWrite() // the socket is closed next in any case
	}
	_ = r.stream.SetReadDeadline(time.Now().Add(unreadTime))
	_, _ = io.CopyN(io.Discard, r.stream, maxUnread)
	return nil
}
