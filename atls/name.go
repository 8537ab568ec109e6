package atls

import (
	"encoding/base32"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
)

// Carrier says how evidence of the server travels, as asked for in the inner server name.
type Carrier string

// The carriers.
const (
	N1       Carrier = "n1" // evidence in the session ticket
	P1       Carrier = "p1" // evidence as the first application data
	X1       Carrier = "x1" // bundle used, no evidence asked for
	Ordinary Carrier = ""   // ordinary TLS
)

// ALPN is the only protocol that attested TLS offers (RFC 7301). It is visible on the wire, hence that of
// any MQTT client.
const ALPN = "mqtt"

// base32Nonce is lower case, since server names are.
var base32Nonce = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// named reports whether a server name can ask for the carrier.
func (c Carrier) named() bool { return c == N1 || c == P1 || c == X1 }

// attests reports whether the server gives evidence.
func (c Carrier) attests() bool { return c == N1 || c == P1 }

type nonce = [attest.NonceSize]byte

// serverName returns the inner server name.
func serverName(n nonce, c Carrier, service string) string {
	return base32Nonce.EncodeToString(n[:]) + "." + string(c) + "." + service
}

// parseServerName splits a server name. Names that do not ask for anything of this protocol are Ordinary;
// names that ask in a wrong way are ErrFormat.
func parseServerName(name, service string) (Carrier, nonce, error) {
	var n nonce
	rest, ok := strings.CutSuffix(strings.ToLower(name), "."+service)
	if !ok {
		return Ordinary, n, nil
	}
	label, carrier, ok := strings.Cut(rest, ".")
	if !ok || !Carrier(carrier).named() {
		return Ordinary, n, nil
	}
	decoded, err := base32Nonce.DecodeString(label)
	if err != nil || len(decoded) != len(n) || base32Nonce.EncodeToString(decoded) != label {
		return Ordinary, n, attest.Errorf(attest.ErrFormat, "first label of the server name is not a nonce of %d bytes in base32", len(n))
	}
	copy(n[:], decoded)
	return Carrier(carrier), n, nil
}

// CheckServiceName checks that name can be the name of a service: lower-case DNS labels, and short enough
// that nonce and carrier can stand before it.
func CheckServiceName(name string) error {
	if name == "" || len(name) > attest.MaxServiceSize {
		return attest.Errorf(attest.ErrFormat, "service name must have 1 to %d characters", attest.MaxServiceSize)
	}
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return attest.Errorf(attest.ErrFormat, "service name %q: a label has 1 to 63 lower-case letters, digits or inner hyphens", name)
		}
	}
	return nil
}

func validLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(label, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}
