// Package brokertest drives a broker core as a host would, with the clock in the hands of the test.
//
// A [Rig] plays the host of package abi: it gathers events into batches, calls the core's step as often as the
// contract asks for, carries out the effects, and keeps for each [Conn] the bytes that were written to it. What
// contradicts the contract, such as a write to a connection that is closed, is an error of the rig.
//
//	rig := brokertest.New(broker.New())
//	rig.Configure(config)
//	a := rig.Open(&abi.Peer{Listener: "plain"})
//	a.Packets(connect)             // queues an event
//	err := rig.Run()               // runs the queue, and what the core asks for in turn
//	packets, err := a.Received()   // what a got since the last call, as text
//	err = rig.Advance(time.Second) // lets time pass, with the core woken when it wants to be
//
// A [Script] is a conversation of clients with a core as text: see [RunScript].
//
// Any core can be driven that has the methods of [Core]; two rigs that are given the same calls make the same
// batches, so that their traces can be compared.
package brokertest
