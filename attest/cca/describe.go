package cca

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/vouchmq/vouchmq/attest"
)

// Describe tells what a token says, field by field. Nothing is verified.
func Describe(q attest.Quote) ([]attest.Field, error) {
	t, err := parse(q.Data)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "CCA token: %w", err)
	}
	p, r := &t.platformClaims, &t.realmClaims
	firmware := attest.Sum(p.Firmware)
	fields := []attest.Field{
		{Name: "platform profile", Value: p.Profile},
		{Name: "lifecycle", Value: lifecycleWords(p.Lifecycle)},
		{Name: "implementation id", Value: hex.EncodeToString(p.Implementation)},
		{Name: "platform instance", Value: hex.EncodeToString(p.Instance)},
		{Name: "firmware", Value: hex.EncodeToString(firmware[:]) + " (SHA-384 of the list of components)"},
		{Name: "initial measurement (RIM)", Value: hex.EncodeToString(r.Initial)},
	}
	for i, m := range r.Extensible {
		fields = append(fields, attest.Field{Name: "REM" + strconv.Itoa(i), Value: hex.EncodeToString(m)})
	}
	return append(fields,
		attest.Field{Name: "measured with", Value: r.Digest},
		attest.Field{Name: "challenge (report data)", Value: hex.EncodeToString(r.Challenge)}), nil
}

func lifecycleWords(state uint16) string {
	if state < securedFirst || state > securedLast {
		return fmt.Sprintf("%#04x: NOT SECURED, the platform can be debugged", state)
	}
	return fmt.Sprintf("%#04x: secured", state)
}
