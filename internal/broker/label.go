package broker

import "encoding/binary"

// label is the name of a level. Most names are short, and stand in the label itself; of a longer one it holds the block.
type label struct {
	bytes [labelSize]byte
	size  uint8 // of a name that stands here, or labelBlock
}

const (
	labelSize  = 11
	labelBlock = 255
)

// setName gives a node without a name one.
func (t *tree) setName(n *node, level []byte) {
	if len(level) <= labelSize {
		copy(n.name.bytes[:], level)
		n.name.size = uint8(len(level))
		return
	}
	b := t.names.keep(level)
	binary.LittleEndian.PutUint32(n.name.bytes[:], b.chunk)
	binary.LittleEndian.PutUint32(n.name.bytes[4:], b.at)
	binary.LittleEndian.PutUint16(n.name.bytes[8:], uint16(b.size)) // a string of MQTT has no more bytes (1.5.4)
	n.name.size = labelBlock
}

// nameOf returns the name of a node.
func (t *tree) nameOf(n *node) []byte {
	if n.name.size <= labelSize {
		return n.name.bytes[:n.name.size]
	}
	return t.names.bytes(n.name.block())
}

// block returns where the name of a label is that has not room for it.
func (l *label) block() block {
	return block{
		chunk: binary.LittleEndian.Uint32(l.bytes[:]),
		at:    binary.LittleEndian.Uint32(l.bytes[4:]),
		size:  uint32(binary.LittleEndian.Uint16(l.bytes[8:])),
	}
}

// dropName frees the name of a node.
func (t *tree) dropName(n *node) {
	if n.name.size == labelBlock {
		t.names.release(n.name.block())
	}
}

// nameGrowth returns how many bytes more a name takes, besides its node.
func (t *tree) nameGrowth(level []byte) uint64 {
	if len(level) <= labelSize {
		return 0
	}
	return t.names.growth(len(level))
}
