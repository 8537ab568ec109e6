package engine

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// Core is one running broker core. It is not safe for use by several goroutines. After an error the core is
// of no further use, except to be closed.
type Core interface {
	// Batch returns room for a batch of size bytes. It is the core's own memory, valid until the next call
	// of Batch or Close.
	Batch(size uint32) ([]byte, error)
	// Step runs the events in [start, end) of the batch and returns the effects, valid until the next call
	// of Step or Close.
	Step(start, end uint32) ([]byte, error)
	// Chunk returns chunk i of the messages that the core keeps, valid as the effects are; nil if there is no
	// such chunk.
	Chunk(i uint32) ([]byte, error)
	// Close frees the core and its memory.
	Close() error
}

// Factory makes cores: the first one, and another one after each failure.
type Factory interface {
	// Kind names what the cores are, for logs and statistics: "native" or "wasm-compiler".
	Kind() string
	// NewCore makes a core that has not seen any event.
	NewCore() (Core, error)
}

// ErrCoreFailed is what all errors of a core are: it trapped, panicked, or broke the contract of package abi.
var ErrCoreFailed = errors.New("broker core failed")

// GoCore is a core that is part of this program; *broker.Core is one. It panics where a module would trap.
type GoCore interface {
	Batch(size uint32) []byte
	Step(start, end uint32) []byte
	Chunk(i uint32) []byte
}

// NativeFactory makes cores of Go code that is part of this program.
type NativeFactory func() GoCore

// Kind returns "native".
func (NativeFactory) Kind() string { return "native" }

// NewCore makes a core.
func (f NativeFactory) NewCore() (core Core, err error) {
	defer recoverAs(&err, "start")
	return &nativeCore{f()}, nil
}

type nativeCore struct{ core GoCore }

func (n *nativeCore) Batch(size uint32) (b []byte, err error) {
	defer recoverAs(&err, "batch")
	b = n.core.Batch(size)
	if uint64(len(b)) < uint64(size) {
		return nil, fmt.Errorf("%w: batch of %d bytes has room for %d", ErrCoreFailed, size, len(b))
	}
	return b[:size], nil
}

func (n *nativeCore) Step(start, end uint32) (effects []byte, err error) {
	defer recoverAs(&err, "step")
	return n.core.Step(start, end), nil
}

func (n *nativeCore) Chunk(i uint32) (b []byte, err error) {
	defer recoverAs(&err, "chunk")
	return n.core.Chunk(i), nil
}

func (n *nativeCore) Close() error { return nil }

// recoverAs turns a panic of the native core into the error that a trap of the module would be.
func recoverAs(err *error, where string) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: panic in %s: %v\n%s", ErrCoreFailed, where, p, debug.Stack())
	}
}
