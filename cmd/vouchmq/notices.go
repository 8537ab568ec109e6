package main

import (
	"context"
	"log/slog"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
)

// noticing is a log whose warnings a person sees, and all else with -d.
func noticing(o pubsub.Options) *slog.Logger {
	return slog.New(&notices{o})
}

// notices is a slog.Handler over what a client says.
type notices struct{ to pubsub.Options }

func (n *notices) sink(level slog.Level) func(string) {
	if level >= slog.LevelWarn {
		return n.to.Notice
	}
	return n.to.Log
}

// Enabled implements slog.Handler.
func (n *notices) Enabled(_ context.Context, level slog.Level) bool { return n.sink(level) != nil }

// Handle implements slog.Handler.
func (n *notices) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	n.sink(r.Level)(text)
	return nil
}

// WithAttrs implements slog.Handler; nobody here needs it.
func (n *notices) WithAttrs([]slog.Attr) slog.Handler { return n }

// WithGroup implements slog.Handler; nobody here needs it.
func (n *notices) WithGroup(string) slog.Handler { return n }
