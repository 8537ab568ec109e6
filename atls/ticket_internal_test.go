package atls

import (
	"bytes"
	"testing"
)

// No ticket shows anything of an earlier one that had the same memory.
func TestTicketsShareOnlyMemory(t *testing.T) {
	room := new([smallTicket]byte)
	packTicket(bytes.Repeat([]byte{0xff}, smallTicket-lengthSize), room[:])
	giveBack(room)
	if *room != ([smallTicket]byte{}) {
		t.Error("a ticket given back is not all zeros")
	}
	if evidence, err := unpackTicket(packTicket([]byte("evidence"), room[:])); err != nil || string(evidence) != "evidence" {
		t.Errorf("%q, %v", evidence, err)
	}
}
