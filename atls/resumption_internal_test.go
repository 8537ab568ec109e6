package atls

import (
	"crypto/tls"
	"testing"
)

// Two things keep sessions from being resumed, and each would do by itself: ticket keys are off wherever no evidence travels in a ticket, and
// no configuration knows a ticket that is shown to it.
func TestEachConfigurationKnowsNoTicket(t *testing.T) {
	s := &Server{config: ServerConfig{Service: "plant.example"}.withDefaults()}
	s.ordinary = s.tlsConfig()
	configs := map[Carrier]*tls.Config{}
	for _, c := range []Carrier{Ordinary, N1, P1, X1} {
		h := &serverHandshake{server: s, session: session{service: "plant.example"}}
		hello := tls.ClientHelloInfo{ServerName: serverName(nonce{1}, c, "plant.example")}
		if c == Ordinary {
			hello.ServerName = "plant.example"
		}
		config, err := h.configForClient(&hello)
		if err != nil {
			t.Fatal(err)
		}
		configs[c] = config
	}
	configs["base"] = s.tlsConfig()
	for c, config := range configs {
		if state, err := config.UnwrapSession([]byte("ticket"), tls.ConnectionState{}); state != nil || err != nil {
			t.Errorf("%q: a ticket is known: %v, %v", c, state, err)
		}
		if evidence := c == N1 || c == X1; config.SessionTicketsDisabled == evidence || (config.WrapSession != nil) != evidence {
			t.Errorf("%q: tickets are on where there is no evidence for them, or off where there is", c)
		}
	}
}
