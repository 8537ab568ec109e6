package auth

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// Config says who is let in. In the configuration file, with paths relative to its folder:
//
//	authentication:
//	  anonymous: [plain]              # listeners that let in clients without user name and password
//	  attested: [secure]              # listeners that let in clients with an attested identity without a password
//	  max_hashes: 2                   # passwords that are checked at once
//	  sources:                        # asked in this order; the first that knows the client decides
//	    - certificate: {}
//	    - passwords: { file: passwords }
//	    - listeners: [tls]            # only there
//	      jwt:
//	        algorithms: [RS256, ES256]
//	        keys: issuer.pem
//	        issuer: https://login.plant.example
//	        audience: [mqtt]
//	    - http: { url: "https://127.0.0.1:8443/mqtt", ca: service-ca.pem, timeout: 3s }
//
// The zero Config lets in nobody.
type Config struct {
	// Anonymous names the listeners that let in clients without user name and password, as nobody.
	Anonymous []string `yaml:"anonymous" doc:"listeners that let in clients without user name and password, as nobody"`
	// Attested names the listeners that let in clients that have an attested identity and send no password.
	Attested []string `yaml:"attested" doc:"listeners that let in clients that have an attested identity and send no password"`
	// MaxHashes bounds how many passwords are checked at once, for each may take 64 MiB and more. Default 2.
	MaxHashes int `yaml:"max_hashes" doc:"passwords that are checked at once, each of which may take 64 MiB; 0 is 2"`
	// Sources are asked in this order.
	Sources []Source `yaml:"sources" doc:"who knows clients, asked in this order; the first that knows a client decides"`
}

// Source is one place that knows clients. Exactly one of its kinds is set.
type Source struct {
	// Listeners are those that the source is for. None stands for all.
	Listeners   []string     `yaml:"listeners" doc:"listeners that the source is for; none given is all"`
	Certificate *Certificate `yaml:"certificate" doc:"clients with a certificate are the user that it names"`
	Passwords   *Passwords   `yaml:"passwords" doc:"a password file"`
	JWT         *JWT         `yaml:"jwt" doc:"tokens"`
	HTTP        *HTTP        `yaml:"http" doc:"a service that is asked"`
}

// Certificate accepts clients whose certificate TLS has verified, as the user that the listener read from it.
type Certificate struct {
	// AnyUserName lets a client give another user name in its CONNECT; that of the certificate counts. Without it such
	// a client is refused.
	AnyUserName bool `yaml:"any_user_name" doc:"the client may give another user name in CONNECT, which does not count"`
}

// Passwords accepts the users of a password file, see package passwords.
type Passwords struct {
	// File is the path of the file. Required.
	File string `yaml:"file" doc:"path of the password file"`
}

// JWT accepts tokens (RFC 7519).
type JWT struct {
	// Algorithms are those that are accepted: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, and
	// with Secret only HS256, HS384, HS512. Required; there is no default, and none is not one of them.
	Algorithms []string `yaml:"algorithms" doc:"of signatures that are accepted, such as RS256 and ES256"`
	// Keys is a file of public keys or certificates in PEM, or of a JWK or JWK set in JSON.
	Keys string `yaml:"keys" doc:"file of public keys: PEM, JWK or JWK set"`
	// URL is where a JWK set is fetched from, in place of Keys. With https, or with http from this machine.
	URL string `yaml:"url" doc:"address of the JWK set, or of the service: https, or http on this machine"`
	// CA is a file of certificates that the server of URL is verified by. Default: those of the system.
	CA string `yaml:"ca" doc:"file of CA certificates that the server is verified by; empty is those of the system"`
	// Refresh is how often the JWK set is fetched. Default an hour, at least a minute. A token with an unknown key makes
	// it happen earlier, at most once a minute.
	Refresh time.Duration `yaml:"refresh" doc:"time between fetches of the JWK set; 0s is an hour"`
	// Insecure lets URL be http to another machine: whoever is on the way can then make tokens.
	Insecure bool `yaml:"insecure" doc:"the address may be http on another machine, though all can be read on the way"`
	// Secret is a file with the secret of HS256, HS384 or HS512, in place of Keys: at least 32 bytes. A line feed at its
	// end does not count.
	Secret string `yaml:"secret" doc:"file with the secret of HS256, HS384 or HS512"`
	// From is where the token stands: password or user_name. Default password.
	From string `yaml:"from" enum:"|password|user_name" doc:"where the token stands; empty is password"`
	// Issuer is what iss must be. Default: it is not looked at.
	Issuer string `yaml:"issuer" doc:"what the claim iss must be; empty is anything"`
	// Audience lists values of which aud must have one. Default: it is not looked at.
	Audience []string `yaml:"audience" doc:"of which the claim aud must have one; none given is anything"`
	// UserClaim is the claim with the user name. Default sub.
	UserClaim string `yaml:"user_claim" doc:"claim with the user name; empty is sub"`
	// AnyUserName lets a client give another user name in its CONNECT; that of the token counts. Without it such a client
	// is refused.
	AnyUserName bool `yaml:"any_user_name" doc:"the client may give another user name in CONNECT, which does not count"`
	// Leeway is how far clocks may differ when exp and nbf are judged. Default none, at most 5 minutes.
	Leeway time.Duration `yaml:"leeway" doc:"how far clocks may differ; at most 5m"`
}

// HTTP asks a service. It gets a POST with JSON:
//
//	{"client_id":"c1","user":"alice","password":"...","listener":"tls","address":"203.0.113.7","port":51234}
//
// A password that is not UTF-8 stands in password_base64 instead; what the client did not send is left out. The answer
// has status 200 and JSON of at most 4 KiB:
//
//	{"result":"allow","user":"alice"}
//
// The result is allow, deny, or ignore (the next source is asked). The user may be left out; it is then the one that
// the client gave. Any other answer, or none in time, refuses the client with 0x88.
type HTTP struct {
	// URL is asked. Required. With https, or with http on this machine.
	URL string `yaml:"url" doc:"address of the JWK set, or of the service: https, or http on this machine"`
	// Insecure lets URL be http to another machine: passwords can then be read on the way.
	Insecure bool `yaml:"insecure" doc:"the address may be http on another machine, though all can be read on the way"`
	// Timeout is the time for an answer, waiting for one's turn included. Default 3 seconds, at most a minute.
	Timeout time.Duration `yaml:"timeout" doc:"time for an answer; 0s is 3s"`
	// MaxRequests bounds how many are asked about at once. Default 64.
	MaxRequests int `yaml:"max_requests" doc:"requests at once; 0 is 64"`
	// CA is a file of certificates that the service is verified by. Default: those of the system.
	CA string `yaml:"ca" doc:"file of CA certificates that the server is verified by; empty is those of the system"`
	// Certificate and Key are files of a client certificate. Default none.
	Certificate string `yaml:"certificate" doc:"file of a client certificate to show to the service"`
	Key         string `yaml:"key" doc:"file of the key of the client certificate"`
}

func (c Config) withDefaults() Config {
	if c.MaxHashes == 0 {
		c.MaxHashes = 2
	}
	return c
}

// Check names the field that is missing or makes no sense. It reads no files.
func (c *Config) Check() error {
	if c.MaxHashes < 0 || c.MaxHashes > 256 {
		return fmt.Errorf("max_hashes is %d: it must be 1 to 256", c.MaxHashes)
	}
	if slices.Contains(c.Anonymous, "") || slices.Contains(c.Attested, "") {
		return errors.New("anonymous or attested has an empty name: it must be that of a listener")
	}
	for i := range c.Sources {
		if err := c.Sources[i].check(); err != nil {
			return fmt.Errorf("sources[%d]%w", i, err)
		}
	}
	return nil
}

// Listeners returns the names of listeners that stand in the configuration, so that those that do not exist can be
// told.
func (c *Config) Listeners() []string {
	names := slices.Concat(c.Anonymous, c.Attested)
	for _, s := range c.Sources {
		names = append(names, s.Listeners...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Files returns the files that the configuration names: when one changes, it is time to reload.
func (c *Config) Files() (files []string) {
	for i := range c.Sources {
		for _, p := range c.Sources[i].paths() {
			if *p != "" {
				files = append(files, *p)
			}
		}
	}
	return files
}

// Resolve returns the configuration with relative paths as seen from a folder.
func (c Config) Resolve(folder string) Config {
	c.Sources = slices.Clone(c.Sources)
	for i := range c.Sources {
		s := &c.Sources[i]
		s.Passwords, s.JWT, s.HTTP = clone(s.Passwords), clone(s.JWT), clone(s.HTTP)
		for _, p := range s.paths() {
			if *p != "" && !filepath.IsAbs(*p) {
				*p = filepath.Join(folder, *p)
			}
		}
	}
	return c
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// paths are the fields with paths.
func (s *Source) paths() []*string {
	switch {
	case s.Passwords != nil:
		return []*string{&s.Passwords.File}
	case s.JWT != nil:
		return []*string{&s.JWT.Keys, &s.JWT.CA, &s.JWT.Secret}
	case s.HTTP != nil:
		return []*string{&s.HTTP.CA, &s.HTTP.Certificate, &s.HTTP.Key}
	}
	return nil
}

func (s *Source) check() error {
	kinds := 0
	for _, set := range []bool{s.Certificate != nil, s.Passwords != nil, s.JWT != nil, s.HTTP != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return errors.New(": it must have exactly one of certificate, passwords, jwt, http (an empty one is written {})")
	case slices.Contains(s.Listeners, ""):
		return errors.New(".listeners has an empty name")
	case s.Passwords != nil && s.Passwords.File == "":
		return errors.New(".passwords.file is missing: make one with vouchmq passwd")
	case s.JWT != nil:
		return s.JWT.check()
	case s.HTTP != nil:
		return s.HTTP.check()
	}
	return nil
}
