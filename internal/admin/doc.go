// Package admin is the administration of a running broker from the same machine: HTTP with JSON over a Unix socket, and
// the client side of it.
//
//	vouchmq clients list ── Client ── Unix socket ── Server ── Broker ── the core, by questions (package abi)
//
// HTTP because every language and curl speak it; a Unix socket because the system then knows who asks. The socket has
// mode 0600, and on Linux each connection's user is looked at besides: the broker's own, or root. There is no other
// authentication, and no way in from another machine.
//
// Whatever comes in is bounded and read strictly: an unknown parameter or field is an error. Lists are given page by
// page, in an order in which what stays is not missed. docs/administration.md describes the protocol for others.
package admin
