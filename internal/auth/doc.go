// Package auth finds out who a client is: by a password file, a token, a service that is asked over HTTP, a client
// certificate, attested evidence, or SCRAM.
//
// The core asks for it with [abi.EffectAuthenticate], and does nothing for the connection until the answer is there.
// So a hash may take its time: it runs in a goroutine of the connection, never within a step of the core.
//
// # How a login is judged
//
// A CONNECT without a method of enhanced authentication goes through the sources in the order of the configuration,
// those that are not for its listener left out. Each accepts, refuses, or has no opinion, as the password file has
// none of a user that does not stand in it. The first opinion counts. If nobody has one, a client
//
//   - that has an attested identity and sent no password is let in on a listener that allows it, without a user name;
//   - that sent neither user name nor password is let in on a listener that allows it, as nobody;
//   - anybody else is refused.
//
// On a listener for which there is no source nobody could check a user name or password. If it lets in clients as
// nobody, then also those that send one; it does not count.
//
// A CONNECT with the method SCRAM-SHA-256 is judged by the SCRAM verifiers of the password files alone.
//
// # Reason codes
//
// Wrong credentials: 0x86. None, where some are needed: 0x87. An address that is locked out: 0x8A. A source that
// cannot judge now: 0x88, and nobody after it is asked. An unknown method: 0x8C. When a client authenticates anew
// (4.12.1) the answer is a DISCONNECT, which knows fewer codes: 0x87 stands for 0x86 and 0x8A there, 0x89 for 0x88.
// What the client is told besides is the same whatever was wrong.
package auth
