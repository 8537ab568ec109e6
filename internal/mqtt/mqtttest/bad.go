package mqtttest

import (
	"fmt"
	"os"
	"strings"
)

// Bad is a packet that breaks the standard, and what the standard demands for it.
type Bad struct {
	Line    int    // in the list
	Version byte   // protocol level of the connection
	Packet  []byte // as a client sends it
	Why     string // statement or section, and what is wrong

	answer string
}

var levels = map[string]byte{"3.1": 3, "3.1.1": 4, "5": 5}

// ReadBad reads a list of bad packets, whose head explains the columns:
//
//	version ... | packet in the notation of Wire | answer | statement or section, and what is wrong
//
// A line for several versions gives one packet for each of them.
func ReadBad(path string) (list []Bad, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if list, err = appendBad(list, number, line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: the list is empty", path)
	}
	return list, nil
}

func appendBad(list []Bad, number int, line string) ([]Bad, error) {
	columns := strings.SplitN(line, "|", 4)
	if len(columns) != 4 {
		return nil, fmt.Errorf("there are not four columns")
	}
	packet, err := Wire(strings.TrimSpace(columns[1]))
	if err != nil {
		return nil, err
	}
	for _, word := range strings.Fields(columns[0]) {
		if levels[word] == 0 {
			return nil, fmt.Errorf("there is no version %q", word)
		}
		list = append(list, Bad{number, levels[word], packet, strings.TrimSpace(columns[3]), strings.TrimSpace(columns[2])})
	}
	return list, nil
}

// Behind gives what a client gets that sends the packet behind a good CONNECT: "disconnect" and a reason, or ""
// for nothing. The connection is closed. ok is false for a CONNECT that is to be the first.
func (b *Bad) Behind() (answer string, ok bool) {
	reason, second := strings.CutPrefix(b.answer, "second ")
	if b.Packet[0]>>4 == 1 && !second {
		return "", false
	}
	if b.Version < 5 {
		return "", true
	}
	return "disconnect " + reason, true
}

// First gives what a client gets whose first packet it is: "connack" and a reason, or "" for nothing. The connection
// is closed. ok is false for a CONNECT that is bad only as the second.
func (b *Bad) First() (answer string, ok bool) {
	switch {
	case strings.HasPrefix(b.answer, "second "):
		return "", false
	case strings.HasPrefix(b.answer, "connack "):
		return b.answer, true
	}
	return "", true
}
