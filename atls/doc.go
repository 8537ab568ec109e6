// Package atls is attested TLS, version 1: TLS 1.3 in which the server, and if wanted the client, proves
// which program runs at its end, in which TEE. It uses the standard library's crypto/tls, unmodified.
//
// # How it works
//
// The client has a bundle: owner CA, ECH configuration, and a policy for the server. It connects with an
// inner server name of the form
//
//	base32(32 random bytes) "." carrier "." service
//
// under Encrypted Client Hello (RFC 9849), so that an observer sees neither the nonce nor that attestation
// is asked for. The server attests to the TLS exporter (RFC 8446, section 7.5) of this very connection,
// and its evidence travels as the opaque label of the NewSessionTicket message (RFC 8446, section 4.6.1),
// which Go sends in the server's first flight: no round trip is added. Nothing is ever resumed; a ticket
// carries evidence, not state.
//
// # Using it without the broker
//
// A server needs a certificate of its owner's CA (package owner), an ECH key, and an [attest.Attester] for the TEE
// that it runs in. [NewServer] checks them and makes evidence once; [NewListener] or [Listen] give a net.Listener for
// anything that serves connections, such as http.Server:
//
//	server, err := atls.NewServer(ctx, atls.ServerConfig{Service: "shop.example", Certificate: certificate,
//		ECHKeys: keys, Attester: attester, Identity: attest.Identity{Module: digest}})
//	listener, err := atls.Listen(":8883", server, atls.ListenerOptions{Failed: logFailure})
//	err = http.Serve(listener, handler)
//
// Handshakes run beside each other, so that Accept never waits for a slow peer. What Accept returns is a *[Conn],
// and [Conn.Peer] tells who is there; unless the server requires evidence, peers without any are let in, too, and
// it is for the application to look. A renewed certificate or another policy is another Server: [Listener.SetServer].
//
// A client needs the service's name, its owner CA, its ECH configuration, and a policy. [Dial] and [Client] return
// a connection over which nothing has been sent, or an error. What has a bundle file is easier with package client.
// In http.Transport it is the DialTLSContext; see the example. Do not return a nil *Conn as a net.Conn.
//
// Any protocol can run over a Conn, in both directions at once, as over a *tls.Conn; CloseWrite ends one way. The ALPN
// protocol is "mqtt" whatever runs there, on purpose: it is visible, and a name of its own would tell. So HTTP over it is
// HTTP/1.1.
//
// # Carriers, and who sends what
//
//	name                     carrier   evidence of the server                        frame of the client
//	NONCE.n1.SERVICE         N1        in the ticket, padded to a bucket             yes
//	NONCE.p1.SERVICE         P1        in a frame, the first application data        yes
//	NONCE.x1.SERVICE         X1        none: an empty ticket, padded to the bucket   yes, of length 0
//	anything else            Ordinary  none                                          no
//
// A frame is a big-endian u32 length and that many bytes of evidence. A client with a bundle sends exactly one,
// as soon as the handshake is done (X1) or it has accepted the server (N1, P1), without waiting, so that it
// travels in the flight of the first application bytes; its length is 0 if the client does not attest.
// [Server.Handshake] reads and appraises it before it returns, so no application byte is delivered before the
// verdict. Connections under any other name are ordinary TLS, for clients that know nothing of this; what they
// may do is for the rules to say.
//
// P1 is for TLS stacks that do not show the label of a ticket. It takes one round trip more than N1, and that the
// server speaks first can be seen. The client chooses the carrier; nobody can change it on the way. Where a stack
// cannot do ECH either, [ServerConfig.P1WithoutECH] serves it at the price of its privacy.
//
// # Who may see evidence
//
// Whoever has the bundle, or, with [RevealAuthenticated], clients that have shown a certificate: then the server
// asks all clients with a bundle for one, and nothing of its evidence leaves before that was verified. The ticket
// cannot come in the first flight any more, so that N1 takes a round trip more as well. Evidence then states the
// client's key, too.
//
// # Gates
//
// [Client] and [Dial] return a [Conn] only after the server's evidence has been accepted: there is nothing
// to write on before. [Server.Handshake] returns one only after the client's evidence has been accepted, if
// it gave any, and refuses a client that gave none where evidence is required.
//
// Whatever fails, the other side sees the same: the handshake completes, and the connection is closed. The
// reason is in the returned error, told apart by [attest.Kind] with errors.Is, and for a refusal in the
// verdict of a [RefusedError].
//
// # What an observer sees
//
// The public name, ALPN "mqtt", that ECH is used, and sizes and times. N1 and X1 have the same sizes, but
// not the same times: the quote delays the server's first flight. P1 shows itself: its server speaks first, and
// its frame has the size of the evidence. A client that attests sends a larger
// record, so that mutual attestation shows by its size. Ordinary connections show their server name and
// have no ticket, so they are told apart from those with a bundle.
//
// A [Conn] embeds *tls.Conn, so that an established connection costs nothing more than TLS.
package atls
