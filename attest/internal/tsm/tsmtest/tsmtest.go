// Package tsmtest gives tests a kernel with configfs-tsm.
package tsmtest

import (
	"sync"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"
)

// Answer is what the kernel gives for an attribute of an entry with this inblob.
type Answer func(inblob []byte) ([]byte, error)

// Kernel is a fake of configfs-tsm.
type Kernel struct {
	configfsi.Client
	Reports *faketsm.ReportSubsystem

	mu    sync.Mutex
	fault error // of the last answer
}

// New makes a kernel with answers for some attributes.
func New(answers map[string]Answer) *Kernel {
	k := &Kernel{Reports: faketsm.ReportV7(0)}
	plain := k.Reports.ReadAttr
	k.Reports.ReadAttr = func(e *faketsm.ReportEntry, attr string) (data []byte, err error) {
		answer := answers[attr]
		if answer == nil {
			return plain(e, attr)
		}
		data, k.fault = answer(e.InAttrs["inblob"].Value)
		return data, k.fault
	}
	k.Client = &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": k.Reports}}
	return k
}

// Fixed is an answer that is always the same.
func Fixed(data []byte) Answer { return func([]byte) ([]byte, error) { return data, nil } }

// Failing is an answer that is an error.
func Failing(err error) Answer { return func([]byte) ([]byte, error) { return nil, err } }

// ReadFile reads an attribute. Its error is that of the answer, of which the library keeps the text only.
func (k *Kernel) ReadFile(name string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fault = nil
	data, err := k.Client.ReadFile(name)
	if k.fault != nil {
		return nil, k.fault
	}
	return data, err
}
