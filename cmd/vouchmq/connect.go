package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
)

// passwordEnv is where a password may stand instead of in a file.
const passwordEnv = "VOUCHMQ_PASSWORD"

// connectFlags are the flags that pub and sub share, named as those of mosquitto_pub and mosquitto_sub.
type connectFlags struct {
	host, version, id, idPrefix  string
	unix                         string
	webSocket                    bool
	port                         int
	keepAlive                    uint16
	user, password, passwordFile string
	persistent                   bool
	sessionExpiry                string
	cafile                       string
	insecure, osCerts            bool
	bundle                       string
	attest                       attestFlags
	renewEvery                   time.Duration
	noReconnect                  bool
	asking                       askFlags
	verdict                      bool
	debug, quiet                 bool
	noted                        bool // see askFlags.noteUnused
	willTopic, willPayload       string
	willQoS                      uint8
	willRetain                   bool
	properties                   propertyFlag
	lasts                        bool // the command outlives a connection, set by the command
}

func (f *connectFlags) register(c *cobra.Command) {
	helpWithoutShorthand(c)
	f.properties = propertyFlag{}
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.bundle, "bundle", "", "connect to the broker of this bundle, and verify it by attestation")
	f.attest.register(fs)
	fs.DurationVar(&f.renewEvery, "renew-every", 12*time.Minute, "with --attest and -V mqttv311 or mqttv31: time after which to connect anew, before the broker finds the evidence too old")
	fs.BoolVar(&f.noReconnect, "no-reconnect", false, "end, with status 2, when the connection is lost; else connect anew")
	fs.BoolVar(&f.verdict, "verdict", false, "print what was verified about the broker")
	f.asking.register(fs)
	fs.StringVarP(&f.host, "host", "h", "", "host of the broker (default: of the bundle, or localhost)")
	fs.IntVarP(&f.port, "port", "p", 0, "port of the broker (default: of the bundle, or 1883, or 8883 with TLS)")
	fs.StringVar(&f.unix, "unix", "", "connect to the Unix socket at this path, not to a host")
	fs.BoolVar(&f.webSocket, "ws", false, "speak WebSocket, with the path /mqtt")
	fs.StringVarP(&f.id, "id", "i", "", "client id (default: vouchmq-PROCESS)")
	fs.StringVarP(&f.idPrefix, "id-prefix", "I", "", "client id: this and the number of the process")
	fs.StringVarP(&f.user, "username", "u", "", "user name")
	fs.StringVarP(&f.password, "pw", "P", "", "password; anybody on this machine can see it: better --password-file")
	fs.StringVar(&f.passwordFile, "password-file", "", "file whose first line is the password, - for standard input (or set "+passwordEnv+")")
	fs.StringVarP(&f.version, "protocol-version", "V", "mqttv5", "mqttv5, mqttv311 or mqttv31")
	fs.Uint16VarP(&f.keepAlive, "keepalive", "k", 60, "keep alive, in seconds")
	fs.BoolVarP(&f.persistent, "disable-clean-session", "c", false, "keep the session when the connection ends (needs -i)")
	fs.StringVarP(&f.sessionExpiry, "session-expiry-interval", "x", "", "seconds that the session outlives the connection; -1 or ∞: for ever (MQTT 5)")
	fs.StringVar(&f.cafile, "cafile", "", "file with the certificates to trust; turns TLS on")
	fs.BoolVar(&f.osCerts, "tls-use-os-certs", false, "trust the certificates of the system; turns TLS on")
	fs.BoolVar(&f.insecure, "insecure", false, "do not check that the certificate is for the host; for tests")
	fs.StringVar(&f.willTopic, "will-topic", "", "topic of the will, sent if the connection is lost")
	fs.StringVar(&f.willPayload, "will-payload", "", "payload of the will")
	fs.Uint8Var(&f.willQoS, "will-qos", 0, "QoS of the will")
	fs.BoolVar(&f.willRetain, "will-retain", false, "retain the will")
	fs.VarP(f.properties, "property", "D", "property of MQTT 5: PACKET NAME VALUE; may be repeated")
	fs.BoolVarP(&f.debug, "debug", "d", false, "say what goes on")
	fs.BoolVar(&f.quiet, "quiet", false, "print no errors")
}

// options are the client's, as far as flags say.
func (f *connectFlags) options(c *cobra.Command) (pubsub.Options, error) {
	o := pubsub.Options{
		ClientID:   f.clientID(),
		KeepAlive:  f.keepAlive,
		CleanStart: !f.persistent,
		User:       f.user,
		Properties: f.properties["connect"],
	}
	if !f.quiet {
		o.Notice = func(s string) { fmt.Fprintf(c.ErrOrStderr(), "%s: %s\n", c.CommandPath(), s) }
	}
	if f.debug {
		o.Log = func(s string) { fmt.Fprintln(c.ErrOrStderr(), s) }
	}
	var err error
	if o.Version, err = pubsub.ParseVersion(f.version); err != nil {
		return o, err
	}
	if len(f.properties) > 0 && o.Version != pubsub.V5 {
		return o, errors.New("-D is for MQTT 5: use it with -V mqttv5")
	}
	if f.persistent && f.id == "" {
		return o, errors.New("-c keeps a session, which needs a client id of its own: give one with -i")
	}
	if o.Password, err = f.readPassword(c.InOrStdin()); err != nil {
		return o, err
	}
	if o.Password != nil && o.User == "" && o.Version != pubsub.V5 {
		return o, errors.New("a password needs a user name: give one with -u")
	}
	if o.Will, err = f.will(); err != nil {
		return o, err
	}
	return o, f.addSessionExpiry(&o)
}

func (f *connectFlags) clientID() string { return nameOr(f.id, f.idPrefix) }

// nameOr is the name that is given, else one that the number of the process makes the only one of its kind.
func nameOr(name, prefix string) string {
	if name != "" {
		return name
	}
	return cmp.Or(prefix, "vouchmq-") + strconv.Itoa(os.Getpid())
}

// readPassword takes the password from where it was said to be. Of several places the flag counts, then the file.
func (f *connectFlags) readPassword(stdin io.Reader) ([]byte, error) {
	switch {
	case f.password != "":
		return []byte(f.password), nil
	case f.passwordFile != "":
		line, err := readFirstLine(f.passwordFile, stdin)
		if err != nil {
			err = fmt.Errorf("--password-file: %w", err)
		}
		return line, err
	case os.Getenv(passwordEnv) != "":
		return []byte(os.Getenv(passwordEnv)), nil
	}
	return nil, nil
}

func readFirstLine(path string, stdin io.Reader) (line []byte, err error) {
	if path == "-" {
		line, err = io.ReadAll(stdin)
	} else {
		line, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

func (f *connectFlags) will() (*pubsub.Message, error) {
	if f.willTopic == "" {
		if f.willPayload != "" || f.willQoS != 0 || f.willRetain || len(f.properties["will"]) > 0 {
			return nil, errors.New("a will needs a topic: --will-topic")
		}
		return nil, nil
	}
	if f.willQoS > 2 {
		return nil, fmt.Errorf("--will-qos %d: QoS is 0, 1 or 2", f.willQoS)
	}
	return &pubsub.Message{
		Topic: f.willTopic, Payload: []byte(f.willPayload), QoS: f.willQoS, Retain: f.willRetain,
		Properties: f.properties["will"],
	}, nil
}

// forEver is the Session Expiry Interval that means no expiry (MQTT 5, 3.1.2.11.2).
const forEver = "4294967295"

// addSessionExpiry adds the property that -x asks for; with -c alone the session is kept for ever.
func (f *connectFlags) addSessionExpiry(o *pubsub.Options) error {
	const name = "session-expiry-interval"
	value := f.sessionExpiry
	switch {
	case o.Version != pubsub.V5 && value != "":
		return errors.New("-x is for MQTT 5: use it with -V mqttv5")
	case o.Version != pubsub.V5 || o.Properties.Has(name):
		return nil
	case value == "-1" || value == "∞" || value == "" && f.persistent:
		value = forEver
	case value == "":
		return nil
	}
	_, p, err := pubsub.ParseProperty([]string{"connect", name, value})
	if err != nil {
		return err
	}
	o.Properties = append(o.Properties, p)
	return nil
}

// dialTime bounds the way to a connection that is ready for CONNECT.
const dialTime = 30 * time.Second

// connect opens the connection that the flags describe, verifies the broker if there is a bundle, and sends
// CONNECT.
func (f *connectFlags) connect(ctx context.Context, c *cobra.Command, o pubsub.Options) (pubsub.Client, error) {
	client, err := f.open(ctx, c, o)
	if errors.Is(err, pubsub.ErrNoConnack) {
		return nil, withHint(err, f.noAnswerHint())
	}
	return client, err
}

// open connects: once, or as often as needed by a command that lasts.
func (f *connectFlags) open(ctx context.Context, c *cobra.Command, o pubsub.Options) (pubsub.Client, error) {
	if err := f.checkTransport(); err != nil {
		return nil, err
	}
	if f.bundle != "" {
		return f.openAttested(ctx, c, o)
	}
	return pubsub.Last(ctx, pubsub.Link{
		Dial:      func(ctx context.Context) (net.Conn, error) { return f.dialPlain(ctx, o.Log) },
		Reconnect: f.lasts && !f.noReconnect,
	}, o)
}

// noAnswerHint is what it mostly means if a broker ends a connection before CONNACK. One that does not accept a
// client's evidence tells nobody but its log.
func (f *connectFlags) noAnswerHint() string {
	switch {
	case f.attest.wanted():
		return "the broker may not accept this client's evidence: its log says why"
	case f.bundle != "":
		return "the broker may want evidence of its clients: try --attest; its log says why"
	}
	return "is this an MQTT listener, and the right one of TLS and plain TCP? After failed logins an address is locked out for a while"
}

// dialPlain opens a connection without a bundle: by TCP, TLS, a Unix socket, or WebSocket over one of them.
func (f *connectFlags) dialPlain(ctx context.Context, log func(string)) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := f.dialSocket(ctx, log)
	if err == nil && f.webSocket {
		return overWebSocket(ctx, conn)
	}
	return conn, err
}

// checkTransport says which flags do not fit each other.
func (f *connectFlags) checkTransport() error {
	switch {
	case f.bundle == "" && (f.verdict || f.attest.wanted() || f.asking.carrier != "" || f.asking.collateral != ""):
		return errors.New("--verdict, --attest, --carrier and --collateral need a bundle: --bundle FILE")
	case f.bundle != "" && (f.unix != "" || f.webSocket):
		return errors.New("attested TLS goes over TCP alone: leave out --unix and --ws, or --bundle")
	case f.unix != "" && (f.host != "" || f.port != 0 || f.secure()):
		return errors.New("--unix names a socket of this machine: leave out -h and -p, and what turns TLS on")
	}
	return nil
}

// dialSocket connects by TCP, TLS or a Unix socket.
func (f *connectFlags) dialSocket(ctx context.Context, log func(string)) (net.Conn, error) {
	network, addr := "tcp", f.address(f.secure())
	if f.unix != "" {
		network, addr = "unix", f.unix
	}
	if log != nil {
		log("connecting to " + addr)
	}
	if !f.secure() {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	config, err := f.tlsConfig()
	if err != nil {
		return nil, err
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
	if err != nil && !isNetwork(err) {
		hint := "check --cafile, and that this is a TLS listener"
		if outOfTime(err) {
			hint = clockHint
		}
		return nil, withHint(fmt.Errorf("%w: TLS with %s: %w", errNoConnection, addr, err), hint)
	}
	return conn, err
}

func (f *connectFlags) secure() bool {
	return f.cafile != "" || f.asking.cert != "" || f.osCerts || f.insecure
}

func (f *connectFlags) address(secure bool) string {
	host, port := f.host, f.port
	if host == "" {
		host = "localhost"
	}
	if port == 0 {
		port = 1883
		if secure {
			port = 8883
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

func (f *connectFlags) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"mqtt"}}
	if f.cafile != "" {
		pem, err := os.ReadFile(f.cafile)
		if err != nil {
			return nil, fmt.Errorf("--cafile: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cafile %s: there is no certificate in it", f.cafile)
		}
	}
	pair, err := f.asking.certificate()
	if err != nil {
		return nil, err
	}
	if pair != nil {
		config.Certificates = []tls.Certificate{*pair}
	}
	if f.insecure {
		checkChainOnly(config)
	}
	return config, nil
}

// checkChainOnly leaves out the host name, and nothing else: that is what --insecure means in mosquitto_pub.
func checkChainOnly(config *tls.Config) {
	config.InsecureSkipVerify = true // replaced by the check below
	config.VerifyConnection = func(s tls.ConnectionState) error {
		intermediates := x509.NewCertPool()
		for _, cert := range s.PeerCertificates[1:] {
			intermediates.AddCert(cert)
		}
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: config.RootCAs, Intermediates: intermediates})
		return err
	}
}
