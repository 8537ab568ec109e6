// Package gateway lets unmodified MQTT clients reach an attested broker. It takes plain MQTT of any version on
// listeners of this machine, and carries each connection to the broker over a verified connection of its own:
//
//	client ── plain MQTT ──> gateway ── attested TLS ──> broker
//
// For each client it reads the head of CONNECT, no more than it needs to know the version; then it has the broker
// dialled and verified; and only then anything of the client goes out. Both ways are carried no faster than they are taken
// at the other end, and an end of one way is passed on as such.
//
// # Connections that stand
//
// Broker and gateway attest again on a connection, over AUTH of MQTT 5, without the client's knowing. Towards the broker
// therefore each connection is MQTT 5 with the method of re-attestation (see client.Reattester), and a passage carries whole
// packets: those of MQTT 5 as they are, but for AUTH and a few properties of CONNECT and CONNACK; those of MQTT 3.1 and 3.1.1
// translated. To connect anew for 3.1.1 instead would publish wills, and end clean sessions.
//
// A client that names a method of its own has taken the place of it (4.12), and one with a small maximum packet size leaves no room
// for evidence: those are carried byte by byte, without rounds.
//
// A watch notices that the broker has come to attest another configuration, since nobody could tell the gateway: see
// Config.Watch. A broker that fails a round, or is not what a renewed bundle says, is left, and the client told.
//
// A client whose broker cannot be reached, or is not what it should be, gets a CONNACK that says so in its version,
// and the reason stands in the log. Nothing of the client has left then.
//
// Whoever reaches a listener speaks to the broker through the gateway's attested connection: the listeners are for
// programs that are trusted as much as the gateway itself.
package gateway
