// Package gateway lets unmodified MQTT clients reach an attested broker. It takes plain MQTT of any version on
// listeners of this machine, and carries each connection to the broker over a verified connection of its own:
//
//	client ── plain MQTT ──> gateway ── attested TLS ──> broker
//
// For each client it reads the head of CONNECT, no more than it needs to know the version; then it has the broker
// dialled and verified; and only then the client's bytes go out, those of the head first, unchanged. From there on it
// looks at nothing: bytes are carried both ways, each way no faster than they are taken at the other end, and an end
// of one way is passed on as such.
//
// A client whose broker cannot be reached, or is not what it should be, gets a CONNACK that says so in its version,
// and the reason stands in the log. Nothing of the client has left then.
//
// Whoever reaches a listener speaks to the broker through the gateway's attested connection: the listeners are for
// programs that are trusted as much as the gateway itself.
package gateway
