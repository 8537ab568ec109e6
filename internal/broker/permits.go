package broker

// permits are what the rules allow a connection. Connections that are allowed the same share them: then a topic that one
// of them may publish to need not be judged again for the others, see route.
type permits struct {
	filters block  // see appendPermits
	judged  uint64 // no other permits have this number, now or later
	rules   uint32 // the serial of the rules that they come from: limits of topics may have changed with these
	users   uint32 // connections
}

// takePermits gives a connection permits, and releases those that it had.
func (c *Core) takePermits(p *connection, filters []byte) {
	hash := hashBytes(c.seed^uint64(c.rulesSerial)*hashMul1, filters)
	id := c.findPermits(hash, filters)
	if id == 0 {
		var of *permits
		id, of = c.permits.alloc()
		c.judgements++
		of.filters, of.judged, of.rules = c.store.keep(filters), c.judgements, c.rulesSerial
		c.byFilters.insert(hash, id)
	}
	of := c.permits.at(id)
	of.users++
	c.dropPermits(p)
	p.permits, p.judged = id, of.judged
}

// findPermits returns the number of the permits with these filters, or 0.
func (c *Core) findPermits(hash uint32, filters []byte) uint32 {
	for id := c.byFilters.first(hash); id != 0; id = c.byFilters.next(id, hash) {
		if of := c.permits.at(id); of.rules == c.rulesSerial && string(c.store.bytes(of.filters)) == string(filters) {
			return id
		}
	}
	return 0
}

// dropPermits takes a connection's permits away: it may do nothing.
func (c *Core) dropPermits(p *connection) {
	id := p.permits
	c.judgements++ // no topic has been judged by this
	p.permits, p.judged = 0, c.judgements
	if id == 0 {
		return
	}
	of := c.permits.at(id)
	if of.users--; of.users > 0 {
		return
	}
	c.byFilters.remove(c.byFilters.hashOf(id), id)
	c.store.release(of.filters)
	c.permits.release(id)
}

// filtersOf returns the filters of a connection's permits.
func (c *Core) filtersOf(p *connection) []byte {
	if p.permits == 0 {
		return nil
	}
	return c.store.bytes(c.permits.at(p.permits).filters)
}
