package brokertest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// at lets time pass.
func (s *Script) at(text string) error {
	t, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	if t < s.rig.Now() {
		return fmt.Errorf("it is %v already", s.rig.Now())
	}
	return s.rig.Advance(t - s.rig.Now())
}

// client does what "a: publish ..." says.
func (s *Script) client(text string) error {
	name, rest, ok := strings.Cut(text, ": ")
	if !ok {
		return fmt.Errorf("it is not said whose packet it is")
	}
	c := s.clients[name]
	if c == nil {
		c = &scriptClient{}
		s.clients[name] = c
	}
	w := splitWords(rest)
	hasty := w.flag("hasty")
	if i := slices.Index(w.list, "last"); i == 1 {
		w.list[i] = c.lastID
	}
	switch {
	case w.flag("open"):
		return s.open(c, w)
	case len(w.list) > 0 && w.list[0] == "connect":
		return s.connect(name, c, w)
	case c.conn == nil || c.conn.Gone():
		return fmt.Errorf("%s is not connected", name)
	case w.flag("lost"):
		c.conn.Lose()
		return w.end()
	}
	packet, err := buildPacket(c.version, w)
	switch {
	case err != nil:
		return err
	case hasty:
		c.conn.Hasty(packet)
	default:
		c.conn.Packets(packet)
	}
	return nil
}

func (s *Script) open(c *scriptClient, w *words) error {
	peer := abi.Peer{Listener: "plain", Authenticate: w.flag("authenticate")}
	if v, ok := w.value("listener"); ok {
		peer.Listener = v
	}
	if v, ok := w.value("identity"); ok {
		peer.Identities = strings.Split(v, ",")
	}
	peer.User, _ = w.value("user")
	peer.Platform, _ = w.value("platform")
	peer.Module, _ = w.value("module")
	if len(w.list) > 0 {
		version, err := parseVersion(w.next("the version"))
		if err != nil {
			return err
		}
		c.version = version
	}
	if c.conn != nil && !c.conn.Gone() {
		return fmt.Errorf("it is open already")
	}
	c.conn = s.rig.Open(&peer)
	return w.end()
}

func (s *Script) connect(name string, c *scriptClient, w *words) (err error) {
	if c.conn == nil || c.conn.Gone() {
		if err := s.open(c, &words{}); err != nil {
			return err
		}
	}
	w.next("connect")
	if c.version, err = parseVersion(w.next("the version")); err != nil {
		return err
	}
	packet, err := buildConnect(c.version, name, w)
	if err == nil {
		c.conn.Packets(packet)
	}
	return err
}
