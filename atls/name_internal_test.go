package atls

import (
	"errors"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
)

// A nonce has one label: its last character stands for one bit, and what else would decode to the same is refused.
func TestNonceHasOneLabel(t *testing.T) {
	const service = "plant.example"
	name := serverName(nonce{1, 31: 0xff}, N1, service)
	label, rest, _ := strings.Cut(name, ".")
	accepted := 0
	for _, last := range "abcdefghijklmnopqrstuvwxyz234567" {
		carrier, n, err := parseServerName(label[:len(label)-1]+string(last)+"."+rest, service)
		switch {
		case err == nil && (carrier != N1 || serverName(n, carrier, service) != label[:len(label)-1]+string(last)+"."+rest):
			t.Errorf("label ending in %c is taken for nonce %x of carrier %q", last, n, carrier)
		case err == nil:
			accepted++
		case carrier != Ordinary || !errors.Is(err, attest.ErrFormat):
			t.Errorf("label ending in %c: carrier %q, %v", last, carrier, err)
		}
	}
	if accepted != 2 {
		t.Errorf("%d labels that differ in their last character are accepted, and there is one bit in it", accepted)
	}
}
