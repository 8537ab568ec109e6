package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// note appends something to log.
func (c *Core) note(n abi.Note, conn abi.Conn, data []byte) {
	c.effect(abi.EffectNote, conn, uint32(n), data)
}

// noteConnected tells the host that a client has been accepted.
func (c *Core) noteConnected(p *connection, s *session, req *mqtt.Connect, present bool) {
	c.encoded = abi.AppendConnected(c.encoded[:0], &abi.Connected{
		ClientID: string(c.store.bytes(s.clientID)), User: c.peerOf(p).User, Version: uint8(p.version), KeepAlive: c.keepAlive(req),
		CleanStart: req.CleanStart, SessionPresent: present, Expiry: s.expiry,
	})
	c.note(abi.NoteConnected, p.conn, c.encoded)
}

// noteDisconnected tells the host that a session loses its connection.
func (c *Core) noteDisconnected(p *connection) {
	c.encoded = abi.AppendDisconnected(c.encoded[:0], &abi.Disconnected{
		ClientID: string(c.store.bytes(c.sessions.at(p.session).clientID)), Reason: uint8(p.ended), Orderly: p.orderly,
	})
	c.note(abi.NoteDisconnected, p.conn, c.encoded)
}

// noteSubscription tells the host of one filter of a SUBSCRIBE or an UNSUBSCRIBE, or of a topic or filter that the rules refused.
func (c *Core) noteSubscription(n abi.Note, p *connection, filter []byte, reason mqtt.ReasonCode) {
	c.encoded = abi.AppendSubscribed(c.encoded[:0], c.store.bytes(c.sessions.at(p.session).clientID), filter, uint8(reason))
	c.note(n, p.conn, c.encoded)
}
