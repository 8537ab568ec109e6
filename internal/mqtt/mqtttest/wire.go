// Package mqtttest writes down packets in tests, good ones and bad ones, byte by byte and still to be read.
package mqtttest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Wire builds bytes from a notation close to the tables of the standard:
//
//	10: "MQTT" 05 02 003C [ 21 0014 ] "c1"
//
// Hexadecimal digits stand for themselves, a quoted text for a UTF-8 encoded
// string with its length, 'text' for bare bytes, [ ... ] for what it holds with
// a property length before it, and "XX:" for a fixed header whose remaining
// length is that of the rest. text*N repeats the unquoted text N times. Texts
// hold no spaces.
func Wire(notation string) ([]byte, error) {
	first, rest, ok := strings.Cut(notation, ":")
	if !ok || len(first) != 2 {
		return fields(strings.Fields(notation))
	}
	head, err := hex.DecodeString(first)
	if err != nil {
		return nil, fmt.Errorf("%q is no first byte: %w", first, err)
	}
	body, err := fields(strings.Fields(rest))
	return append(binary.AppendUvarint(head, uint64(len(body))), body...), err
}

func fields(tokens []string) ([]byte, error) {
	stack := [][]byte{{}}
	for _, token := range tokens {
		top := len(stack) - 1
		switch {
		case token == "[":
			stack = append(stack, []byte{})
		case token == "]" && top > 0:
			inner := stack[top]
			stack = stack[:top]
			stack[top-1] = append(binary.AppendUvarint(stack[top-1], uint64(len(inner))), inner...)
		default:
			b, err := field(token)
			if err != nil {
				return nil, fmt.Errorf("%q is no field: %w", token, err)
			}
			stack[top] = append(stack[top], b...)
		}
	}
	if len(stack) > 1 {
		return nil, fmt.Errorf("a bracket is not closed")
	}
	return stack[0], nil
}

func field(token string) ([]byte, error) {
	if text, count, repeated := strings.Cut(token, "*"); repeated {
		n, err := strconv.Atoi(strings.TrimSuffix(count, `"`))
		if err != nil {
			return nil, err
		}
		token = `"` + strings.Repeat(strings.Trim(text, `"`), n) + `"`
	}
	switch token[0] {
	case '"':
		text := strings.Trim(token, `"`)
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...), nil
	case '\'':
		return []byte(strings.Trim(token, `'`)), nil
	}
	return hex.DecodeString(token)
}
