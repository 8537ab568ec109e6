//go:build !unix

package transport

import "errors"

// canReadNow is false where waiting and reading cannot be told apart: connections keep a buffer while they wait.
const canReadNow = false

func readNow(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

func writeNow(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

func isNothing(error) bool { return false }
