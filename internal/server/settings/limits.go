package settings

import "time"

// Limits bound what clients may use.
type Limits struct {
	MaxPacketSize     uint32 `yaml:"max_packet_size" min:"16" max:"268435455" doc:"bytes of the largest packet that a client may send"`
	MaxInflight       uint16 `yaml:"max_inflight" min:"1" doc:"QoS 1 and 2 messages on their way to one client"`
	ReceiveMaximum    uint16 `yaml:"receive_maximum" min:"1" doc:"QoS 2 messages on their way from one client"`
	TopicAliasMaximum uint16 `yaml:"topic_alias_maximum" min:"1" doc:"topic aliases that one client may set"`
	MaxAliasesOut     uint16 `yaml:"max_aliases_out" doc:"topic aliases that the broker sets towards one client; 0 is none"`
	MaxQueued         uint32 `yaml:"max_queued" min:"1" doc:"messages that wait for one session"`
	MaxQueuedBytes    uint32 `yaml:"max_queued_bytes" min:"1" doc:"their bytes"`
	Overflow          string `yaml:"overflow" enum:"drop_newest|drop_oldest|disconnect" doc:"what happens when they are too many"`
	MaxRetained       uint32 `yaml:"max_retained" min:"1" doc:"retained messages"`
	MaxRetainedBytes  uint32 `yaml:"max_retained_bytes" min:"1" doc:"their bytes"`
	MaxSessions       uint32 `yaml:"max_sessions" min:"1" doc:"sessions, connected or not"`
	MaxSubscriptions  uint32 `yaml:"max_subscriptions" min:"1" doc:"subscriptions of one session"`
	MaxTopicLevels    uint16 `yaml:"max_topic_levels" min:"1" doc:"levels of a topic"`
	MaxTopicBytes     uint16 `yaml:"max_topic_bytes" doc:"bytes of a topic; 0 is no bound but MQTT's own"`
	MaxKeepAlive      uint16 `yaml:"max_keep_alive" doc:"seconds; MQTT 5 clients that ask for more, or for none, are told this; 0 is no bound"`
	MaxSessionExpiry  uint32 `yaml:"max_session_expiry" min:"1" doc:"seconds that a session may outlive its connection; 4294967295 is for ever"`
	MaxMemory         uint32 `yaml:"max_memory" min:"1" doc:"bytes of messages and names that the core keeps; beyond it new ones are refused (0x97)"`
	MaxModuleMemory   uint32 `yaml:"max_module_memory" doc:"bytes of all tables of the core; beyond them new work is refused; 0, or more than a third of memory, is a third of memory"`

	ConnectTimeout          time.Duration `yaml:"connect_timeout" min:"1ms" max:"24h" doc:"time from the connection to CONNECT"`
	StallTimeout            time.Duration `yaml:"stall_timeout" min:"1ms" max:"24h" doc:"time without progress after which a receiver no longer slows publishers"`
	MaxConnections          int           `yaml:"max_connections" min:"1" max:"16777215" doc:"connections and handshakes together"`
	MaxHandshakes           int           `yaml:"max_handshakes" min:"1" max:"16777215" doc:"TLS handshakes at a time, beyond which the oldest is ended"`
	MaxHandshakesPerAddress int           `yaml:"max_handshakes_per_address" min:"1" max:"16777215" doc:"TLS handshakes at a time of one IPv4 address, or of one /64 of IPv6, beyond which its oldest is ended"`
	HandshakeTimeout        time.Duration `yaml:"handshake_timeout" min:"1ms" max:"24h" doc:"time for a TLS handshake; takes a restart"`
	SoftBacklog             int           `yaml:"soft_backlog" min:"1024" max:"1073741824" doc:"bytes that wait for one connection at which its publishers are slowed; takes a restart"`
	HardBacklog             int           `yaml:"hard_backlog" min:"1024" max:"1073741824" doc:"bytes that wait for one connection at which QoS 0 is dropped; takes a restart"`
	FlushTimeout            time.Duration `yaml:"flush_timeout" min:"1ms" max:"24h" doc:"time to write what is left when a connection is closed; takes a restart"`
}

// MQTT is what the broker answers where the standard leaves a choice.
type MQTT struct {
	Shared          string `yaml:"shared" enum:"round_robin|random|sticky|hash_client|hash_topic" doc:"which member of a shared subscription gets a message"`
	CheckPayload    bool   `yaml:"check_payload" doc:"refuse a payload that says it is UTF-8 and is not (0x99)"`
	Failure80       bool   `yaml:"failure_0x80" doc:"answer a refused SUBSCRIBE with 0x80 in MQTT 5 too, for clients that know no other"`
	ResponsePrefix  string `yaml:"response_prefix" doc:"response information for clients that ask; %c is the client id, %u the user; empty is none"`
	ServerReference string `yaml:"server_reference" doc:"where clients are sent that find no room, or when the broker stops; empty is nowhere"`
}
