package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/metrics"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// File is vouchmq.yaml. Paths in it are relative to its folder.
//
//	service: broker.plant.example     # required: what clients know the broker by
//	public_name: mqtt.localhost       # what observers of attested connections see in its place
//	state: state                      # folder of keys and certificates; what is missing is made
//	policy: policy.yaml               # required: who is who, and who may do what
//	tee: sim                          # required: the TEE to attest with
//	engine: wasm                      # or native
//	memory: 1073741824                # bytes of memory of the module
//	shutdown: 10s
//	log: { level: info, format: text }
//	listeners:
//	  - { name: plain, kind: tcp, address: "127.0.0.1:1883" }
//	  - { name: secure, kind: attested, address: ":8883", require_evidence: true }
//	limits: { max_packet_size: 1048576, max_connections: 65536 }
type File struct {
	Service    string         `yaml:"service"`
	PublicName string         `yaml:"public_name"`
	State      string         `yaml:"state"`
	Policy     string         `yaml:"policy"`
	TEE        string         `yaml:"tee"`
	Engine     Engine         `yaml:"engine"`
	Memory     uint64         `yaml:"memory"`
	Shutdown   time.Duration  `yaml:"shutdown"`
	Log        FileLog        `yaml:"log"`
	Listeners  []FileListener `yaml:"listeners"`
	Limits     FileLimits     `yaml:"limits"`

	Metrics metrics.Config    `yaml:"metrics"`
	Admin   admin.Config      `yaml:"admin"`
	Sys     metrics.SysConfig `yaml:"sys"`
}

// FileLog says what is logged, and how.
type FileLog struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

// FileListener is a Listener.
type FileListener struct {
	Name            string `yaml:"name"`
	Kind            Kind   `yaml:"kind"`
	Address         string `yaml:"address"`
	RequireEvidence bool   `yaml:"require_evidence"`
}

// FileLimits are Limits. What is missing, or 0, has its default.
type FileLimits struct {
	MaxPacketSize     uint32        `yaml:"max_packet_size"`
	MaxInflight       uint16        `yaml:"max_inflight"`
	ReceiveMaximum    uint16        `yaml:"receive_maximum"`
	TopicAliasMaximum uint16        `yaml:"topic_alias_maximum"`
	MaxQueued         uint32        `yaml:"max_queued"`
	MaxQueuedBytes    uint32        `yaml:"max_queued_bytes"`
	MaxRetained       uint32        `yaml:"max_retained"`
	MaxRetainedBytes  uint32        `yaml:"max_retained_bytes"`
	MaxSessions       uint32        `yaml:"max_sessions"`
	MaxSubscriptions  uint32        `yaml:"max_subscriptions"`
	MaxTopicLevels    uint16        `yaml:"max_topic_levels"`
	MaxKeepAlive      uint16        `yaml:"max_keep_alive"`
	MaxSessionExpiry  uint32        `yaml:"max_session_expiry"`
	MaxMemory         uint32        `yaml:"max_memory"`
	ConnectTimeout    time.Duration `yaml:"connect_timeout"`
	StallTimeout      time.Duration `yaml:"stall_timeout"` // for reading, and for acknowledging
	MaxConnections    int           `yaml:"max_connections"`
	MaxHandshakes     int           `yaml:"max_handshakes"`
	HandshakeTimeout  time.Duration `yaml:"handshake_timeout"`
	SoftBacklog       int           `yaml:"soft_backlog"`
	HardBacklog       int           `yaml:"hard_backlog"`
	FlushTimeout      time.Duration `yaml:"flush_timeout"`
}

// ParseFile reads the text of a configuration file. An unknown key, or a value of the wrong type, is an error
// with line and column.
func ParseFile(name string, text []byte) (*File, error) {
	f := &File{PublicName: DefaultPublicName, State: "state", Log: FileLog{Level: "info", Format: "text"}}
	f.Sys.Interval = metrics.DefaultSysInterval
	if err := decodeStrictly(text, f); err != nil {
		return nil, fmt.Errorf("%s:%s", name, yaml.FormatError(err, false, false))
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// decodeStrictly decodes YAML. The decoder panics on some tags of its input; that is an error of the input here.
func decodeStrictly(text []byte, f *File) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New(" it uses a form of YAML that cannot be read: write it without tags")
		}
	}()
	return yaml.UnmarshalWithOptions(text, f, yaml.Strict())
}

// check says what is missing or makes no sense; the rest is for Config.
func (f *File) check() error {
	var level slog.Level
	switch {
	case f.Service == "":
		return errors.New("service is missing: the name that clients know the broker by")
	case f.PublicName == f.Service:
		return errors.New("public_name is the service: observers would see which service clients ask for")
	case f.Policy == "":
		return errors.New("policy is missing: the file that says who may do what")
	case f.TEE != "sim":
		return fmt.Errorf("tee is %q: this build can attest with sim only, which protects nothing", f.TEE)
	case level.UnmarshalText([]byte(f.Log.Level)) != nil:
		return fmt.Errorf("log.level %q is none of debug, info, warn, error", f.Log.Level)
	case f.Log.Format != "text" && f.Log.Format != "json":
		return fmt.Errorf("log.format %q is neither text nor json", f.Log.Format)
	case f.Shutdown < 0 || f.Limits.senseless():
		return errors.New("a limit is negative, or a time is negative or longer than a day")
	case f.Memory > 4<<30:
		return errors.New("memory is more than the 4294967296 bytes that a module can have")
	}
	return nil
}

func (l *FileLimits) senseless() bool {
	const day = 24 * time.Hour
	return min(l.MaxConnections, l.MaxHandshakes, l.SoftBacklog, l.HardBacklog) < 0 ||
		min(l.ConnectTimeout, l.StallTimeout, l.HandshakeTimeout, l.FlushTimeout) < 0 ||
		max(l.ConnectTimeout, l.StallTimeout, l.HandshakeTimeout, l.FlushTimeout) > day
}

// limits sorts the limits by who keeps them.
func (l *FileLimits) limits() Limits {
	return Limits{
		Core: abi.Limits{
			MaxPacketSize: l.MaxPacketSize, MaxInflight: l.MaxInflight, ReceiveMaximum: l.ReceiveMaximum,
			TopicAliasMaximum: l.TopicAliasMaximum, MaxQueued: l.MaxQueued, MaxQueuedBytes: l.MaxQueuedBytes,
			MaxRetained: l.MaxRetained, MaxRetainedBytes: l.MaxRetainedBytes, MaxSessions: l.MaxSessions,
			MaxSubscriptions: l.MaxSubscriptions, MaxTopicLevels: l.MaxTopicLevels, MaxKeepAlive: l.MaxKeepAlive,
			MaxSessionExpiry: l.MaxSessionExpiry, MaxMemory: l.MaxMemory,
			ConnectTimeout: uint32(l.ConnectTimeout.Milliseconds()), StallTimeout: uint32(l.StallTimeout.Milliseconds()),
		},
		Transport: transport.Limits{
			MaxConnections: l.MaxConnections, MaxHandshakes: l.MaxHandshakes, HandshakeTimeout: l.HandshakeTimeout,
			SoftBacklog: l.SoftBacklog, HardBacklog: l.HardBacklog, StallAfter: l.StallTimeout, FlushTimeout: l.FlushTimeout,
		},
	}
}

// Logger makes the logger that the file asks for.
func (f *File) Logger(w *os.File) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.Log.Level)) // was checked
	options := &slog.HandlerOptions{Level: level}
	if f.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// LoadFile reads a configuration file. Config and Open make a broker of it.
func LoadFile(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	f, err := ParseFile(path, text)
	if err != nil {
		return nil, err
	}
	f.State, f.Policy = beside(path, f.State), beside(path, f.Policy)
	if f.Admin.Socket != "" {
		f.Admin.Socket = beside(path, f.Admin.Socket)
	}
	return f, nil
}

// beside returns a path that stands in a file as seen from the folder of that file.
func beside(file, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// Open reads what the file names: policy and state folder. module is for the engine wasm.
func (f *File) Open(module []byte, now time.Time, log *slog.Logger) (Config, *State, error) {
	text, err := os.ReadFile(f.Policy)
	if err != nil {
		return Config{}, nil, fmt.Errorf("policy: %w", err)
	}
	p, err := policy.Parse(f.Policy, text)
	if err != nil {
		return Config{}, nil, err
	}
	state, err := OpenState(f.State, f.Service, f.PublicName, now)
	if err != nil {
		return Config{}, nil, err
	}
	runtime, err := RuntimeDigest()
	if err != nil {
		return Config{}, nil, err
	}
	config := Config{
		Service: f.Service, Policy: p, Limits: f.Limits.limits(), Engine: f.Engine, Module: module, MemoryLimit: f.Memory,
		Runtime: runtime, ShutdownTimeout: f.Shutdown, Log: log,
		Sight: Sight{Metrics: f.Metrics, Admin: f.Admin, Sys: f.Sys},
	}
	for _, l := range f.Listeners {
		config.Listeners = append(config.Listeners, Listener(l))
	}
	state.Configure(&config)
	state.warnSimulated(log)
	return config, state, nil
}
