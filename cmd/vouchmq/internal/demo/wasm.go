package demo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// errNoCustomSection says that a module has nothing in it that could be changed without a change of what it does.
var errNoCustomSection = errors.New("the module has no custom section with a content")

// ChangeOneByte returns a copy of a WebAssembly module that differs from it in one byte and still does the same: a
// byte of a custom section, which no runtime takes notice of. Its digest is another one all the same.
func ChangeOneByte(wasm []byte) ([]byte, error) {
	at, err := lastCustomByte(wasm)
	if err != nil {
		return nil, err
	}
	changed := slices.Clone(wasm)
	changed[at] ^= 1
	return changed, nil
}

// lastCustomByte finds the last byte of the last custom section (WebAssembly 1.0, 5.5.2 and 5.5.3).
func lastCustomByte(wasm []byte) (at int, err error) {
	const headerSize = 8 // magic and version
	if len(wasm) < headerSize || !bytes.HasPrefix(wasm, []byte("\x00asm")) {
		return 0, errors.New("this is no WebAssembly module")
	}
	at = -1
	for pos := headerSize; pos < len(wasm); {
		id := wasm[pos]
		size, n := binary.Uvarint(wasm[pos+1:])
		pos += 1 + n
		if n <= 0 || size > uint64(len(wasm)-pos) {
			return 0, errors.New("the WebAssembly module is cut short")
		}
		name, m := binary.Uvarint(wasm[pos : pos+int(size)])
		if id == 0 && m > 0 && size > uint64(m)+name {
			at = pos + int(size) - 1
		}
		pos += int(size)
	}
	if at < 0 {
		return 0, errNoCustomSection
	}
	return at, nil
}
