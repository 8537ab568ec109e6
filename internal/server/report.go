package server

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// handshake returns what secures the connections of a listener, nil for a plain one.
func (l *listener) handshake() transport.Handshake {
	if l.gate == nil {
		return nil
	}
	return l.gate.handshake
}

func sameOptions(a, b *Config) bool { return reflect.DeepEqual(a.Options, b.Options) }

// same reports whether two listeners let in the same way, revocation lists included.
func (l *Listener) same(other *Listener) bool {
	return reflect.DeepEqual(l.Settings, other.Settings) && l.Address == other.Address && l.RequireEvidence == other.RequireEvidence &&
		l.authenticated() == other.authenticated() && l.P1WithoutECH == other.P1WithoutECH &&
		l.Mode == other.Mode && l.MinTLS == other.MinTLS && bytes.Equal(l.leaf(), other.leaf()) && reflect.DeepEqual(l.Clients, other.Clients)
}

// warnInClear says of which listeners names and nonces can be seen, if that was not so before. old may be nil.
func (s *Server) warnInClear(old, config *Config) {
	for i := range config.Listeners {
		l := &config.Listeners[i]
		if !l.P1WithoutECH || old != nil && old.listener(l.Name) != nil && old.listener(l.Name).P1WithoutECH {
			continue
		}
		s.log.Warn("ATTESTATION WITHOUT ENCRYPTED CLIENT HELLO is allowed on listener "+l.Name+": of clients that use it all on the way "+
			"see the service, the nonce, and that they ask for evidence; leave out p1_without_ech if all clients can do ECH", "listener", l.Name)
	}
}

// warnNotAsked says on which attested listeners certificates of clients count for ordinary TLS alone, if that was not so before.
// old may be nil.
func (s *Server) warnNotAsked(old, config *Config) {
	for i := range config.Listeners {
		l := &config.Listeners[i]
		if !l.asksOrdinaryAlone() || old != nil && old.listener(l.Name) != nil && old.listener(l.Name).asksOrdinaryAlone() {
			continue
		}
		s.log.Warn("CLIENTS WITH A BUNDLE ARE NOT ASKED FOR A CERTIFICATE on listener "+l.Name+": client_certificates counts for ordinary TLS alone "+
			"there, and rules that name users do not know who has a bundle by a certificate; say \"reveal: authenticated\" to ask all clients for one", "listener", l.Name)
	}
}

// asksOrdinaryAlone reports whether clients of ordinary TLS are asked for a certificate, and those with a bundle are not.
func (l *Listener) asksOrdinaryAlone() bool {
	return l.Kind == Attested && l.Clients != nil && !l.authenticated()
}

// leaf returns the certificate of the listener's own in DER, nil if it has none.
func (l *Listener) leaf() []byte {
	if l.Certificate == nil {
		return nil
	}
	return l.Certificate.Certificate[0]
}

// inUse returns the certificates that listeners show, each once, by the name of the first listener.
func (c *Config) inUse() (names []string, certificates []*x509.Certificate) {
	for i := range c.Listeners {
		l := &c.Listeners[i]
		pair := l.certificate(c)
		if l.plain() || len(pair.Certificate) == 0 {
			continue
		}
		leaf := pair.Leaf
		if leaf == nil {
			var err error
			if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
				continue // no server could have been made of it
			}
		}
		if !slices.ContainsFunc(certificates, leaf.Equal) {
			names, certificates = append(names, l.Name), append(certificates, leaf)
		}
	}
	return names, certificates
}

// logCertificates logs what has been loaded: certificates that were not in use before, and revocation lists. old may be
// nil.
func (s *Server) logCertificates(old, config *Config) {
	var before []*x509.Certificate
	if old != nil {
		_, before = old.inUse()
	}
	names, certificates := config.inUse()
	for i, c := range certificates {
		if !slices.ContainsFunc(before, c.Equal) {
			s.log.Info("certificate loaded", "listener", names[i], describe(c))
		}
	}
	for i := range config.Listeners {
		s.logClientCA(old, &config.Listeners[i], config.Clock())
	}
}

func (s *Server) logClientCA(old *Config, l *Listener, now time.Time) {
	if l.Clients == nil || old != nil && old.listener(l.Name) != nil && reflect.DeepEqual(old.listener(l.Name).Clients, l.Clients) {
		return
	}
	for _, c := range l.Clients.Issuers {
		s.log.Info("CA of clients loaded", "listener", l.Name, describe(c))
	}
	for _, list := range l.Clients.Lists {
		s.log.Info("revocation list loaded", "listener", l.Name, "issuer", list.Issuer, "revoked", len(list.serials), "next_update", list.NextUpdate)
		if list.expired(now) {
			s.log.Warn("REVOCATION LIST IS OUT OF DATE", "listener", l.Name, "issuer", list.Issuer, "next_update", list.NextUpdate,
				"clients", map[bool]string{true: "allowed", false: "refused"}[l.Clients.AllowExpiredLists])
		}
	}
}

// warnAhead is how long before the end of a certificate warnings begin.
const warnAhead = 21 * 24 * time.Hour

// WarnExpiring logs which certificates, revocation lists and collateral will soon be of no use, and returns how many. It is meant to
// be called once a day.
func (s *Server) WarnExpiring(now time.Time) (count int) {
	config := s.Config()
	names, certificates := config.inUse()
	for i, c := range certificates {
		if now.Add(warnAhead).After(c.NotAfter) {
			count++
			s.log.Warn("CERTIFICATE EXPIRES SOON, or has expired", "listener", names[i], "left", c.NotAfter.Sub(now).Round(time.Hour).String(), describe(c))
		}
	}
	for i := range config.Listeners {
		l := &config.Listeners[i]
		if l.Clients != nil {
			count += s.warnLists(l, now)
		}
	}
	return count + warnAttester(s.log, config.Attester, now) + s.warnCollateral(&config, now)
}

// warnAttester tells of the certificate that goes with the evidence of some TEEs: without it clients refuse the broker.
func warnAttester(log *slog.Logger, a attest.Attester, now time.Time) int {
	certified, ok := a.(interface{ Expiry() time.Time })
	if !ok {
		return 0
	}
	at := certified.Expiry()
	if at.IsZero() || !now.Add(warnAhead).After(at) {
		return 0
	}
	log.Warn("CERTIFICATE OF THE ATTESTATION KEY EXPIRES SOON, or has expired: clients refuse this broker without it", "platform", string(a.Platform()),
		"expires", at.UTC().Format(time.RFC3339))
	return 1
}

func (s *Server) warnLists(l *Listener, now time.Time) (count int) {
	for _, list := range l.Clients.Lists {
		if list.expired(now) {
			count++
			s.log.Warn("REVOCATION LIST IS OUT OF DATE", "listener", l.Name, "issuer", list.Issuer, "next_update", list.NextUpdate)
		}
	}
	return count
}
