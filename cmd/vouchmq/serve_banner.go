package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
	"github.com/vouchmq/vouchmq/internal/server"
)

// writeBanner says what runs, that it protects nothing, and what to try.
func writeBanner(w io.Writer, r local.Ready, config server.Config, state *server.State) {
	platform := config.Attester.Platform()
	if rule := strings.Repeat("=", 88); platform.Simulated() {
		fmt.Fprintf(w, "\n%s\n  THE TEE OF THIS BROKER IS SIMULATED. IT PROTECTS NOTHING. FOR DEVELOPMENT ONLY.\n%s\n\n", rule, rule)
	}
	fmt.Fprintf(w, "  TEE       %s\n", platform)
	fmt.Fprintf(w, "  module    %s\n", r.Module)
	for _, l := range config.Listeners {
		fmt.Fprintf(w, "  listener  %s: %s, %s\n", l.Name, r.Listeners[l.Name], inWords[l.Kind])
	}
	if r.Bundle == "" && state.Enrolment == nil {
		fmt.Fprintf(w, "  bundle    none: only for a simulated TEE does a broker sign its own\n  made now  %s\n\nNext, so that clients can verify it (docs/provisioning.md):\n\n", made(state))
		for _, line := range toProvision(config) {
			fmt.Fprintf(w, "  %s\n", line)
		}
		fmt.Fprintln(w)
		return
	}
	if r.Bundle == "" {
		fmt.Fprintf(w, "  bundle    the one that the owner signed\n  made now  %s\n\n", made(state))
		return
	}
	fmt.Fprintf(w, "  bundle    %s\n  made now  %s\n\n", r.Bundle, made(state))
	lines := toTry(r, config)
	if len(lines) == 0 {
		return
	}
	fmt.Fprint(w, "Try, in other terminals:\n\n")
	for _, line := range lines {
		fmt.Fprintf(w, "  %s\n", line)
	}
	fmt.Fprintln(w)
}

var inWords = map[server.Kind]string{
	server.TCP: "plain MQTT", server.TLS: "ordinary TLS", server.Attested: "attested TLS, and ordinary TLS",
	server.WS: "WebSocket", server.WSS: "WebSocket in TLS",
}

// toProvision are the steps by which an owner elsewhere comes to vouch for a broker with a TEE.
func toProvision(config server.Config) []string {
	lines := []string{
		"the owner makes a CA:           vouchmq ca init CA --service " + config.Service,
		"this configuration names it:    owner: owner-ca.pem",
		"the owner gives out a nonce:    vouchmq ca challenge CA",
		"here a request is made with it: vouchmq enroll --config FILE --nonce NONCE --out request.pem",
		"the owner verifies and signs:   vouchmq ca sign request.pem --ca CA --policy POLICY --identity broker --out cert.pem --bundle BUNDLE",
		"here it is installed:           vouchmq enroll --config FILE --install cert.pem",
	}
	if config.Attester.Platform() == attest.TPM {
		lines = append(lines, "the policy's PCRs:              vouchmq tpm pcrs", "who says that the TPM is one:   vouchmq tpm --help")
	}
	return lines
}

// toTry are commands that work with this broker, in terminals in the same folder. Where names are needed it has none to give.
func toTry(r local.Ready, config server.Config) (lines []string) {
	self, as := os.Args[0], ""
	if config.Authentication != nil {
		as = " -u NAME --password-file FILE"
	}
	if i := slices.IndexFunc(config.Listeners, func(l server.Listener) bool { return l.Kind == server.Attested }); i >= 0 {
		asking, attesting := " --bundle "+r.Bundle, ""
		if config.Listeners[i].Reveal == atls.RevealAuthenticated {
			asking += " --cert FILE --key FILE"
		}
		if config.Listeners[i].RequireEvidence {
			attesting = " --attest " + r.ClientKey
		}
		lines = []string{
			self + " sub" + asking + attesting + as + " -t 'sensors/#' -v",
			self + " pub" + asking + attesting + as + " -t sensors/1 -m 21.5 --verdict",
			self + " inspect" + asking,
		}
	}
	if where := forMosquitto(r, config); where != "" {
		if as != "" {
			as = " -u NAME -P PASSWORD"
		}
		lines = append(lines, "mosquitto_sub"+where+as+" -t 'sensors/#' -v")
	}
	return lines
}

// forMosquitto says how clients that know nothing of this project connect, "" if they cannot. TLS is before plain TCP.
func forMosquitto(r local.Ready, config server.Config) string {
	plain := ""
	for _, l := range config.Listeners {
		path, unix := strings.CutPrefix(l.Address, "unix:")
		_, port, err := net.SplitHostPort(r.Listeners[l.Name])
		switch secure := l.Kind == server.TLS || l.Kind == server.Attested; {
		case l.Kind != server.TCP && !secure, l.RequireEvidence, l.Settings.ProxyProtocol != nil:
		case unix && !secure:
			plain = " --unix " + path
		case unix || err != nil:
		case secure:
			return " -h localhost -p " + port + " --cafile " + r.OwnerCA
		default:
			plain = " -h localhost -p " + port
		}
	}
	return plain
}

func made(state *server.State) string {
	if len(state.Made) == 0 {
		return "nothing: all was there"
	}
	return strings.Join(state.Made, ", ") + " in " + state.Dir
}
