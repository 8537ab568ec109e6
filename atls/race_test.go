//go:build race

package atls_test

// raced says that the race detector is on: it lets pools forget.
const raced = true
