package collateral

import (
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
)

// Source returns the store for a verifier, nil for no store.
func (s *Store) Source() dcap.Source {
	if s == nil {
		return nil
	}
	return s
}

// Endorse gives a quote of this machine the collateral for it, for verifiers that have none. Without a store, or if the store has nothing
// usable, the quote stays as it is: a verifier may have collateral of its own.
func (s *Store) Endorse(q attest.Quote) attest.Quote {
	if s == nil {
		return q
	}
	n, err := dcap.NeedOf(q.Data, s.root)
	if err != nil {
		return q
	}
	if endorsements, err := s.Endorsements(n); err == nil {
		q.Endorsements = endorsements
	}
	return q
}
