package server

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/auth"
	"github.com/vouchmq/vouchmq/internal/metrics"
	"github.com/vouchmq/vouchmq/internal/redact"
	"github.com/vouchmq/vouchmq/internal/server/settings"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// Defaults are the settings of a broker with a file, as far as the file does not say otherwise.
func Defaults() settings.File {
	return settings.File{
		PublicName: DefaultPublicName, State: "state", Engine: string(Wasm), Memory: 1 << 30, Shutdown: 10 * time.Second,
		Log:    settings.Log{Level: "info", Format: "text", Access: true, Redact: true},
		Sys:    metrics.SysConfig{Interval: metrics.DefaultSysInterval},
		Limits: defaultFileLimits(),
		MQTT:   settings.MQTT{Shared: "round_robin"},
		TPM:    settings.TPM{Device: tpm.Device, Bank: "sha256"},

		Attestation: settings.Attestation{
			Reattest: DefaultReattest, Grace: DefaultGrace, Collateral: settings.Collateral{Refresh: DefaultCollateralRefresh},
		},
	}
}

// DevelopmentDefaults are the settings of a broker without a file, see Development.
func DevelopmentDefaults() settings.File {
	f := Defaults()
	f.Service, f.State, f.TEE = DevelopmentService, DevelopmentDir, "sim"
	f.Listeners = []settings.Listener{
		{Name: PlainListener, Kind: settings.KindTCP, Address: DefaultPlainAddress},
		{Name: AttestedListener, Kind: settings.KindAttested, Address: DefaultTLSAddress},
	}
	return f
}

func defaultFileLimits() settings.Limits {
	d, t := DefaultLimits(), transport.DefaultLimits()
	return settings.Limits{
		MaxPacketSize: d.MaxPacketSize, MaxInflight: d.MaxInflight, ReceiveMaximum: d.ReceiveMaximum,
		TopicAliasMaximum: d.TopicAliasMaximum, MaxAliasesOut: d.MaxAliasesOut, MaxQueued: d.MaxQueued,
		MaxQueuedBytes: d.MaxQueuedBytes, Overflow: "drop_newest", MaxRetained: d.MaxRetained, MaxRetainedBytes: d.MaxRetainedBytes,
		MaxSessions: d.MaxSessions, MaxSubscriptions: d.MaxSubscriptions, MaxTopicLevels: d.MaxTopicLevels,
		MaxTopicBytes: d.MaxTopicBytes, MaxKeepAlive: d.MaxKeepAlive, MaxSessionExpiry: d.MaxSessionExpiry,
		MaxMemory: d.MaxMemory, MaxModuleMemory: d.MaxModuleMemory,
		ConnectTimeout: milliseconds(d.ConnectTimeout), StallTimeout: milliseconds(d.StallTimeout),
		MaxConnections: t.MaxConnections, MaxHandshakes: t.MaxHandshakes, MaxHandshakesPerAddress: t.MaxHandshakesPerAddress,
		HandshakeTimeout: t.HandshakeTimeout,
		SoftBacklog:      t.SoftBacklog, HardBacklog: t.HardBacklog, FlushTimeout: t.FlushTimeout,
	}
}

func milliseconds(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }

// limitsOf sorts limits by who keeps them.
func limitsOf(l *settings.Limits) Limits {
	return Limits{
		Core: abi.Limits{
			MaxPacketSize: l.MaxPacketSize, MaxInflight: l.MaxInflight, ReceiveMaximum: l.ReceiveMaximum,
			TopicAliasMaximum: l.TopicAliasMaximum, MaxQueued: l.MaxQueued, MaxQueuedBytes: l.MaxQueuedBytes,
			MaxRetained: l.MaxRetained, MaxRetainedBytes: l.MaxRetainedBytes, MaxSessions: l.MaxSessions,
			MaxSubscriptions: l.MaxSubscriptions, MaxTopicLevels: l.MaxTopicLevels, MaxKeepAlive: l.MaxKeepAlive,
			MaxSessionExpiry: l.MaxSessionExpiry, MaxMemory: l.MaxMemory, MaxTopicBytes: l.MaxTopicBytes,
			MaxAliasesOut: l.MaxAliasesOut, MaxModuleMemory: l.MaxModuleMemory,
			ConnectTimeout: uint32(l.ConnectTimeout.Milliseconds()), StallTimeout: uint32(l.StallTimeout.Milliseconds()),
			StepWork: DefaultLimits().StepWork,
		},
		Complete: true,
		Transport: transport.Limits{
			MaxConnections: l.MaxConnections, MaxHandshakes: l.MaxHandshakes, MaxHandshakesPerAddress: l.MaxHandshakesPerAddress,
			HandshakeTimeout: l.HandshakeTimeout,
			SoftBacklog:      l.SoftBacklog, HardBacklog: l.HardBacklog, StallAfter: l.StallTimeout, FlushTimeout: l.FlushTimeout,
		},
	}
}

// optionsOf returns what the core is told beside its limits.
func optionsOf(f *settings.File) abi.Options {
	return abi.Options{
		Overflow: map[string]abi.Overflow{
			"drop_newest": abi.DropNewest, "drop_oldest": abi.DropOldest, "disconnect": abi.EndConnection,
		}[f.Limits.Overflow],
		Shared: map[string]abi.SharedStrategy{
			"round_robin": abi.SharedRoundRobin, "random": abi.SharedRandom, "sticky": abi.SharedSticky,
			"hash_client": abi.SharedHashClient, "hash_topic": abi.SharedHashTopic,
		}[f.MQTT.Shared],
		CheckPayload: f.MQTT.CheckPayload, Failure80: f.MQTT.Failure80, ResponsePrefix: f.MQTT.ResponsePrefix,
		ServerReference: f.MQTT.ServerReference,
	}
}

// Opening is what a configuration needs beside its settings.
type Opening struct {
	Module  []byte // for the engine wasm
	Now     time.Time
	Log     *slog.Logger
	Level   *slog.LevelVar // of Log, set at each reload; may be nil
	Sockets *Sockets       // that systemd has opened; may be nil
	Version string         // of the program
	Redact  redact.Func    // for names in the log, if the settings ask for it; nil shows them
	Dir     string         // folder that paths are relative to
	running *Opened        // what a broker runs with already; nil at a start
}

// Opened is a configuration with what it was made from.
type Opened struct {
	Config   Config
	State    *State
	Settings *settings.Settings
	Watched  []string          // files of keys, certificates and revocation lists
	seen     [sha256.Size]byte // fingerprint of these, from before they were read
	opening  Opening
}

// Open reads the files that settings name, and makes what is missing in the state folder. All that is wrong with them
// is in the error, which is of type settings.Problems.
func Open(s *settings.Settings, o Opening) (*Opened, error) {
	work := &opener{settings: s, opening: o, seen: sha256.New()}
	config := work.config()
	p := work.policy()
	work.listeners(&config)
	work.fixed()
	if err := work.problems.Err(); err != nil {
		return nil, err
	}
	state, err := work.state()
	if err != nil {
		return nil, err
	}
	if config.Runtime, err = work.runtime(); err != nil {
		return nil, err
	}
	state.Configure(&config)
	if err := work.collateral(&config); err != nil {
		return nil, err
	}
	if err := work.tee(state, &config); err != nil {
		return nil, err
	}
	if config.Policy = p; p == nil {
		if config.Policy, err = state.developmentPolicy(config.Runtime); err != nil {
			return nil, work.fail("policy", err)
		}
	}
	opened := &Opened{Config: config, State: state, Settings: s, opening: o}
	opened.Watched, opened.seen = work.watched, [sha256.Size]byte(work.seen.Sum(nil))
	return opened, nil
}

// Reopen is Open for a broker that runs with o: what cannot change while it runs is a problem, with its place.
func (o *Opened) Reopen(s *settings.Settings, now time.Time) (*Opened, error) {
	opening := o.opening
	opening.Now, opening.running = now, o
	return Open(s, opening)
}

// fixed notes what differs from what runs and cannot. It comes before the state folder is touched, whose certificate
// is of the service.
func (o *opener) fixed() {
	if o.opening.running == nil {
		return
	}
	before, now := &o.opening.running.Settings.File, &o.settings.File
	for _, f := range []struct {
		key     string
		differs bool
	}{
		{"service", before.Service != now.Service}, {"public_name", before.PublicName != now.PublicName},
		{"state", before.State != now.State}, {"owner", before.Owner != now.Owner}, {"tee", before.TEE != now.TEE}, {"tpm", !reflect.DeepEqual(before.TPM, now.TPM)},
		{"sevsnp", before.SEVSNP != now.SEVSNP}, {"cca", before.CCA != now.CCA}, {"sim", before.Sim != now.Sim}, {"engine", before.Engine != now.Engine},
		{"memory", before.Memory != now.Memory}, {"log.redact", before.Log.Redact != now.Log.Redact},
		{"log.access", before.Log.Access != now.Log.Access}, {"metrics", before.Metrics != now.Metrics},
		{"admin", before.Admin != now.Admin}, {"sys", before.Sys != now.Sys},
		{"attestation.collateral", before.Attestation.Collateral != now.Attestation.Collateral},
		{"authentication", (before.Authentication == nil) != (now.Authentication == nil)},
	} {
		if f.differs {
			o.wrong(f.key, ErrFixed)
		}
	}
	for i := range now.Listeners {
		same := func(l settings.Listener) bool { return l.Name == now.Listeners[i].Name }
		if j := slices.IndexFunc(before.Listeners, same); j >= 0 && before.Listeners[j].Kind != now.Listeners[i].Kind {
			o.wrong(fmt.Sprintf("listeners[%d].kind", i), ErrFixed)
		}
	}
}

// runtime returns the digest of this program, which stays the same while it runs.
func (o *opener) runtime() (attest.Digest, error) {
	if o.opening.running != nil {
		return o.opening.running.Config.Runtime, nil
	}
	return RuntimeDigest()
}

// Warn says in the log what the configuration does not protect.
func (o *Opened) Warn(log *slog.Logger) {
	if o.Settings.Policy == "" {
		o.State.warn(log)
		return
	}
	if o.Config.Attester.Platform().Simulated() {
		o.State.warnSimulated(log)
	}
}

// Refresh reads keys, certificates and revocation lists anew; all else is as it was. Nothing is made.
func (o *Opened) Refresh(now time.Time) (Config, error) {
	work := &opener{settings: o.Settings, opening: o.opening}
	config := o.Config
	config.Listeners = nil
	work.listeners(&config)
	if err := work.problems.Err(); err != nil {
		return Config{}, err
	}
	if err := o.State.refresh(&config, now); err != nil {
		return Config{}, work.fail("state", err)
	}
	return config, nil
}

// renew issues the certificate of the state folder anew if it is time, and can be done here.
func (o *Opened) renew(now time.Time) error {
	if o.State.Enrolment != nil {
		return nil // the owner issues, see requestRenewal
	}
	if now.Add(renewBefore).Before(o.Config.Certificate.Leaf.NotAfter) {
		return nil
	}
	_, err := OpenState(o.State.Dir, o.State.Service, o.State.PublicName, now)
	return err
}

// Check reads all files that settings name, makes nothing, and returns all that is wrong, also what would only be
// warned of at a start.
func Check(s *settings.Settings, o Opening) settings.Problems {
	work := &opener{settings: s, opening: o, strict: true}
	config := work.config()
	work.policy()
	work.listeners(&config)
	work.checkState()
	work.checkTEE()
	work.checkCollateral()
	return work.problems
}

// ClaimedConfig returns the digest of the configuration that the evidence of a broker with s claims, computed from copies of its files, so
// that an owner need not take it from the broker's machine. It is known if the settings name owner and policy, and nothing is wrong with them.
func ClaimedConfig(s *settings.Settings, o Opening) (_ attest.Digest, known bool) {
	work := &opener{settings: s, opening: o}
	config := work.config()
	config.Policy = work.policy()
	work.listeners(&config)
	if s.Owner == "" || config.Policy == nil || len(work.problems) > 0 {
		return attest.Digest{}, false
	}
	ca, err := work.ownerCA()
	if err != nil {
		return attest.Digest{}, false
	}
	config.OwnerKey = attest.Sum(ca.RawSubjectPublicKeyInfo)
	id, err := config.Identity()
	return id.Config, err == nil
}

// opener reads the files of settings, and gathers what is wrong with them.
type opener struct {
	intel    *collateral.Store // collateral of Intel that goes with quotes; nil: none
	settings *settings.Settings
	opening  Opening
	strict   bool // an expired certificate is a problem
	problems settings.Problems
	watched  []string
	seen     hash.Hash // of what is in them, see fingerprint; nil: nobody wants to know
}

// watch notes files that a running broker has to follow. It comes before they are read: what changes in between is then noticed.
func (o *opener) watch(names ...string) {
	o.watched = append(o.watched, names...)
	if o.seen == nil {
		return
	}
	for _, name := range names {
		addFile(o.seen, name)
	}
}

// path returns a path of the settings as seen from here.
func (o *opener) path(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(o.opening.Dir, path)
}

// wrong notes that what a key names is of no use.
func (o *opener) wrong(key string, err error) {
	problem := o.settings.Problem(key, err, "%s", err)
	same := func(known settings.Problem) bool { return known.Error() == problem.Error() }
	if !slices.ContainsFunc(o.problems, same) { // listeners share a section
		o.problems = append(o.problems, problem)
	}
}

// fail is wrong, as an error.
func (o *opener) fail(key string, err error) error {
	o.wrong(key, err)
	return o.problems.Err()
}

func (o *opener) config() Config {
	f := &o.settings.File
	config := Config{
		Service: f.Service, Limits: limitsOf(&f.Limits), Options: optionsOf(f), Engine: Engine(f.Engine), Module: o.opening.Module,
		MemoryLimit: f.Memory, ShutdownTimeout: max(f.Shutdown, time.Millisecond), Log: o.opening.Log, LevelVar: o.opening.Level, Sockets: o.opening.Sockets,
	}
	config.Attestation = Attestation{Reattest: f.Attestation.Reattest, Grace: f.Attestation.Grace}
	_ = config.Level.UnmarshalText([]byte(f.Log.Level)) // was checked
	config.Sight = o.sight()
	o.logins(&config)
	return config
}

// sight is how operators see into the broker.
func (o *opener) sight() Sight {
	f := &o.settings.File
	s := Sight{
		Metrics: f.Metrics, Sys: f.Sys, Admin: admin.Config{Socket: o.path(f.Admin.Socket)}, Version: o.opening.Version, Level: o.opening.Level, Quiet: !f.Log.Access,
	}
	if err := s.Metrics.Check(); err != nil {
		o.wrong("metrics.address", err)
	}
	if err := s.Sys.Check(); err != nil {
		o.wrong("sys.interval", err)
	}
	if f.Log.Redact {
		s.Redact = o.opening.Redact
	}
	return s
}

// logins is who is let in.
func (o *opener) logins(config *Config) {
	f := &o.settings.File
	config.Guard = f.Guard
	if err := f.Guard.Check(); err != nil {
		o.wrong("guard", err)
	}
	if f.Authentication == nil {
		return
	}
	a := f.Authentication.Resolve(o.opening.Dir)
	config.Authentication = &a
	if err := a.Check(); err != nil {
		o.wrong("authentication", err)
		return
	}
	for _, name := range a.Listeners() {
		if !slices.ContainsFunc(f.Listeners, func(l settings.Listener) bool { return l.Name == name }) {
			o.wrong("authentication", fmt.Errorf("it names the listener %q, and there is none of that name", name))
		}
	}
	if o.strict {
		o.tryLogins(a)
	}
}

// tryLogins reads the files of the sources, each by itself, so that all that is wrong is told.
func (o *opener) tryLogins(a auth.Config) {
	for i := range a.Sources {
		tried, err := auth.New(auth.Config{Sources: a.Sources[i : i+1]})
		if err != nil {
			o.wrong(fmt.Sprintf("authentication.sources[%d]", i), cmp.Or(errors.Unwrap(err), err)) // without its place among one
			continue
		}
		tried.Close()
	}
}

// policy reads the policy, nil if settings name none.
func (o *opener) policy() *policy.Policy {
	if o.settings.Policy == "" {
		return nil
	}
	name := o.path(o.settings.Policy)
	text, err := os.ReadFile(name)
	if err != nil {
		o.wrong("policy", err)
		return nil
	}
	p, err := policy.Parse(name, text)
	if err != nil {
		o.wrong("policy", err)
	}
	return p
}

func (o *opener) listeners(config *Config) {
	for i := range o.settings.Listeners {
		path := fmt.Sprintf("listeners[%d]", i)
		config.Listeners = append(config.Listeners, o.listener(path, &o.settings.Listeners[i]))
	}
}

func (o *opener) listener(path string, f *settings.Listener) Listener {
	l := Listener{
		Name: f.Name, Kind: Kind(f.Kind), Address: f.Address, RequireEvidence: f.RequireEvidence, Insecure: f.Insecure, Settings: *f,
		Reveal: atls.Reveal(f.Reveal), P1WithoutECH: f.P1WithoutECH,
	}
	if mode, err := f.Permissions(); err == nil {
		l.Mode = fs.FileMode(mode)
	}
	if f.Plain() {
		return l
	}
	own := f.TLS
	if own == nil && l.Kind == Attested {
		own = new(settings.TLS) // what stands at the top is for listeners that never attest
	}
	from := "tls"
	if f.TLS != nil && f.TLS.Certificate != "" {
		from = path + ".tls"
	}
	if l.Kind != Attested {
		merged := own.Over(o.settings.File.TLS)
		own = &merged
	}
	l.MinTLS = tlsVersion(own.MinVersion)
	if own.Certificate != "" {
		l.Certificate = o.pair(from, own)
	}
	if f.ClientCertificates != nil {
		l.Clients = o.clientCA(path+".client_certificates", f.ClientCertificates)
	}
	return l
}

// checkState looks at what is in the state folder already.
func (o *opener) checkState() {
	if o.settings.Owner != "" {
		o.checkEnrolment()
		return
	}
	state := &State{Dir: o.path(o.settings.State)}
	if _, err := os.Stat(state.Path(BrokerCertFile)); err != nil {
		return // it will be made
	}
	if _, err := loadPair(state.Path(BrokerCertFile), state.Path(BrokerKeyFile)); err != nil {
		o.wrong("state", err)
	}
}
