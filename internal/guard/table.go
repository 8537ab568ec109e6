package guard

import (
	"container/list"
	"net/netip"
	"time"
)

// record is what is known of an address that failed.
type record struct {
	key      netip.Prefix
	failures int
	until    time.Time // end of the window, or of the lockout
}

// table holds records by address, the one that was put in last in front.
type table struct {
	byKey map[netip.Prefix]*list.Element
	order *list.List // of *record
}

func newTable() table { return table{byKey: map[netip.Prefix]*list.Element{}, order: list.New()} }

// get returns the record of an address that is still valid, or nil.
func (t *table) get(key netip.Prefix, now time.Time) *record {
	e, ok := t.byKey[key]
	if !ok {
		return nil
	}
	if r := e.Value.(*record); now.Before(r.until) {
		return r
	}
	t.remove(key)
	return nil
}

// put puts a record in front, and forgets the last ones while there are more than most.
func (t *table) put(r *record, most int) {
	t.remove(r.key)
	t.byKey[r.key] = t.order.PushFront(r)
	for t.order.Len() > most {
		t.remove(t.order.Back().Value.(*record).key)
	}
}

func (t *table) remove(key netip.Prefix) {
	if e, ok := t.byKey[key]; ok {
		t.order.Remove(e)
		delete(t.byKey, key)
	}
}

// expire removes what is no longer valid, from the back. A record behind a valid one may stay longer; get does not
// return it.
func (t *table) expire(now time.Time) {
	for e := t.order.Back(); e != nil && !now.Before(e.Value.(*record).until); e = t.order.Back() {
		t.remove(e.Value.(*record).key)
	}
}

// count returns how many records are valid.
func (t *table) count(now time.Time) (n int) {
	for e := t.order.Front(); e != nil; e = e.Next() {
		if now.Before(e.Value.(*record).until) {
			n++
		}
	}
	return n
}
