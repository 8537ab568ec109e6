//go:build !unix

package bench

import (
	"errors"
	"time"
)

// ownProcessorTime is not known here.
func ownProcessorTime() (time.Duration, error) {
	return 0, errors.New("the processor time of a process is measured on Unix only")
}
