//go:build race

package transport

// raced says that the race detector is on: it lets pools forget.
const raced = true
