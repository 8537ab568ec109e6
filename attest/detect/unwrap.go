package detect

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strings"
)

// unwrap takes off what evidence is written in as text. Binary data stays as it is.
func unwrap(data []byte) (inner []byte, wrapping []string) {
	inner = data
	for range 3 { // e.g. JSON, then hexadecimal digits
		next, name := unwrapOnce(inner)
		if name == "" {
			break
		}
		inner, wrapping = next, append(wrapping, name)
	}
	return inner, wrapping
}

func unwrapOnce(data []byte) (inner []byte, name string) {
	text := bytes.TrimSpace(data)
	if len(text) == 0 || !isText(text) {
		return nil, ""
	}
	if block, _ := pem.Decode(text); block != nil {
		return block.Bytes, "PEM"
	}
	if quote := quoteHex(text); quote != "" {
		return []byte(quote), "JSON with QuoteHex"
	}
	if b, err := hex.DecodeString(strings.TrimPrefix(squeeze(text), "0x")); err == nil {
		return b, "hexadecimal digits"
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := e.DecodeString(squeeze(text)); err == nil {
			return b, "base64"
		}
	}
	return nil, ""
}

func isText(data []byte) bool {
	return !bytes.ContainsFunc(data, func(r rune) bool { return r > 0x7e || r < ' ' && r != '\n' && r != '\r' && r != '\t' })
}

// squeeze removes blanks and line ends.
func squeeze(text []byte) string { return strings.Join(strings.Fields(string(text)), "") }

func quoteHex(text []byte) string {
	var w struct{ QuoteHex string }
	if text[0] != '{' || json.Unmarshal(text, &w) != nil {
		return ""
	}
	return w.QuoteHex
}
