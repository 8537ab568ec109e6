package main

import (
	"os"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
	"github.com/vouchmq/vouchmq/internal/auth"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/settings"
)

// TestToTry: what a broker tells people to try works with its listeners.
func TestToTry(t *testing.T) {
	proxied := server.Listener{Name: "tls", Kind: server.TLS}
	proxied.Settings = settings.Listener{ProxyProtocol: &settings.ProxyProtocol{}}
	ready := local.Ready{Bundle: "b", OwnerCA: "ca", ClientKey: "key", Listeners: map[string]string{
		"tcp": "127.0.0.1:1", "attested": "127.0.0.1:2", "wss": "127.0.0.1:3", "tls": "127.0.0.1:4", "unix": "/s",
	}}
	unix := server.Listener{Name: "unix", Kind: server.TCP, Address: "unix:/s"}
	for name, test := range map[string]struct {
		listeners []server.Listener
		users     bool
		want      string
	}{
		"development": {[]server.Listener{{Name: "tcp", Kind: server.TCP}, {Name: "attested", Kind: server.Attested}}, false,
			"sub --bundle b -t|pub --bundle b -t|inspect --bundle b|mosquitto_sub -h localhost -p 2 --cafile ca -t"},
		"evidence required": {[]server.Listener{{Name: "attested", Kind: server.Attested, RequireEvidence: true}}, true,
			"sub --bundle b --attest key -u NAME --password-file FILE -t|pub --bundle b --attest|inspect --bundle b"},
		"evidence for the known": {[]server.Listener{{Name: "attested", Kind: server.Attested, Reveal: atls.RevealAuthenticated}}, false,
			"sub --bundle b --cert FILE --key FILE -t|pub --bundle b --cert|inspect --bundle b --cert|mosquitto_sub -h localhost -p 2 --cafile ca"},
		"neither attested nor simple": {[]server.Listener{{Name: "wss", Kind: server.WSS}, proxied}, false, ""},
		"Unix socket":                 {[]server.Listener{unix, {Name: "wss", Kind: server.WSS}}, true, "mosquitto_sub --unix /s -u NAME -P PASSWORD"},
		"plain TCP":                   {[]server.Listener{{Name: "tcp", Kind: server.TCP}}, false, "mosquitto_sub -h localhost -p 1 -t"},
	} {
		config := server.Config{Listeners: test.listeners}
		if test.users {
			config.Authentication = new(auth.Config)
		}
		var want []string
		if test.want != "" {
			want = strings.Split(test.want, "|")
		}
		got := toTry(ready, config)
		if len(got) != len(want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i := range want {
			if line := strings.TrimPrefix(got[i], os.Args[0]+" "); !strings.HasPrefix(line, want[i]) {
				t.Errorf("%s: %q, want %q", name, line, want[i])
			}
		}
	}
}
