// Package httpd serves HTTP within bounds: for the broker's own small pages, metrics and administration. Connections at
// a time, headers, and the time for reading and writing are all bounded, whoever asks.
package httpd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Bounds of a server.
const (
	MaxConnections = 64      // at a time; more wait
	MaxHeaderBytes = 8 << 10 // of one request; the library adds some
	ReadTimeout    = 5 * time.Second
	IdleTimeout    = time.Minute
)

// Server serves one listener.
type Server struct {
	http *http.Server
	addr net.Addr
	done chan struct{}
}

// Options say how a server works beyond its bounds.
type Options struct {
	WriteTimeout time.Duration // for an answer, from the end of the request's header
	// ConnContext may add to the context of a connection's requests; may be nil.
	ConnContext func(ctx context.Context, conn net.Conn) context.Context
	Log         *slog.Logger // for what goes wrong with connections; nil is nowhere
}

// Serve serves a listener, which belongs to the server from now on, until Close.
func Serve(l net.Listener, handler http.Handler, o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{addr: l.Addr(), done: make(chan struct{})}
	s.http = &http.Server{
		Handler: handler, MaxHeaderBytes: MaxHeaderBytes, ReadTimeout: ReadTimeout, WriteTimeout: o.WriteTimeout,
		IdleTimeout: IdleTimeout, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	if o.ConnContext != nil {
		s.http.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
			return o.ConnContext(ctx, conn.(*counted).Conn)
		}
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(limit(l, MaxConnections)) // it ends with Close, or because the socket failed
	}()
	return s
}

// Addr returns the address of the listener.
func (s *Server) Addr() net.Addr { return s.addr }

// Close ends the server: what is being answered is answered until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}
