// Package broker is the core of VouchMQ: an MQTT 3.1, 3.1.1 and 5.0 broker without sockets, clocks,
// randomness, goroutines or locks. It is a deterministic state machine: the same batches give the same
// effects, byte for byte, whether it runs natively or as WebAssembly.
//
// # How to use it
//
// Package abi describes what goes in and out. The host calls
//
//	core := broker.New()
//	batch := core.Batch(size)          // room for a batch header and events
//	effects := core.Step(start, end)   // runs the events in batch[start:end]
//	chunk := core.Chunk(i)             // where the payloads of kept messages are
//
// and carries out the effects, in their order, before the next call. If the effects say that the step came
// only part of the way, the host calls Step again from there; if they say that there is more to do, or name a
// time to wake up, it calls Step with an empty range. The first event must be abi.EventConfigure: until
// then every connection is refused.
//
// # How it is built
//
// A step must not make garbage: as WebAssembly, Go's collector runs only when the module yields. All state
// is therefore in pages of structs without pointers ([slab]), in hash tables of numbers ([index]) and in one
// store of bytes ([store]); things refer to each other by number, and 0 is nobody. None of these is ever made anew in a
// larger size: they grow by a page, so that no step becomes long because there is much.
//
//	connection   what a network connection is: listener, identities, what its rules allow
//	permits      what the rules allow, for all connections that may do the same
//	session      what MQTT keeps for a client: subscriptions, messages in flight and in the queue, will
//	node         a level of a topic; the nodes form the tree of filters and of retained messages
//	subscription a session at a node, or in a group at that node
//	group        a shared subscription: its members, and the messages that wait until one of them can take them
//	route        a topic name with the sessions and groups that get its messages, kept until subscriptions change
//	message      a message that is kept because somebody must still acknowledge or get it
//	delivery     a message on its way to one session
//	scan         the retained messages that a session is still owed for a new subscription
//	timer        a time at which a connection or a session must be looked at
//
// A CONNECT goes from connect.go through auth.go, if the host is to find out who the client is, to connack.go, which says
// how it went; all that is said to a client that must go stands there too. Questions of the host are answered in ask.go.
//
// A PUBLISH goes from connection.go (packets) through publish.go (what the packet asks), routes.go (who gets
// it) to deliver.go (one delivery for each form that the receivers need) and, for QoS 1 and 2, outbound.go
// (what must be acknowledged). For a shared subscription shared_choice.go finds the member that gets it, and
// shared_waiting.go keeps what none can take now. When the rules change, review.go looks at all connections anew. Each kind of durable state is changed in one file only: sessions
// in session.go, subscriptions in subscription.go and shared.go, retained messages in retained.go, what is in
// flight in outbound.go and inbound.go. Limits are kept where they are met; limits.go counts them and tells of them, and
// memory.go says how the memory of all is bounded.
package broker
