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
// # With MQTT libraries
//
// A library that takes a connection, or a function that opens one, can be given one from here:
//
//   - paho.golang (MQTT 5): paho.ClientConfig.Conn, or autopaho's AttemptConnection. It writes from several
//     goroutines: wrap the connection with packets.NewThreadSafeConn, as with any that is not plain TCP.
//   - paho.mqtt.golang (MQTT 3.1.1): ClientOptions.SetCustomOpenConnectionFn.
//
// The folder examples has a program for each. Libraries that connect again by themselves call such a function each
// time, and so each connection is verified anew. A function that returns a net.Conn must not return Dial's nil *atls.Conn
// in it: return nil where there is an error.
//
// # Errors
//
// A refused broker is an error with an attest.Kind for errors.Is (attest.ErrModule: it runs another program;
// attest.ErrBinding: somebody is in the middle), and Dial's [Verdict] has all that was verified: show
// its Explain to people. Nothing has been sent then. Do not try without attestation instead.
//
// A Bundle and Options can be used by several goroutines at once. Dial ends with its context.
//
// [Inspect] connects only to see who is there, and reports what was verified even if it is refused.
package client
