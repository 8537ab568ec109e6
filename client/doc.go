// Package client connects to an attested broker. [Dial] gives a net.Conn for any MQTT library, over which
// nothing has been sent before the broker's evidence was accepted:
//
//	data, err := os.ReadFile("plant.bundle")
//	bundle, err := client.ParseBundle(data)
//	conn, verdict, err := client.Dial(ctx, bundle, client.Options{})
//
// All that a client must know of a broker is in its [Bundle]: names, addresses, the owner's CA, the key for
// Encrypted Client Hello, and the policy that the broker must satisfy. The owner signs it. Whoever hands
// out a bundle decides what its users trust, so get it from the owner in a way you trust, and compare
// [Bundle.Fingerprint] if in doubt.
//
// [Inspect] connects only to see who is there, and reports what was verified even if it is refused.
package client
