package auth

import "context"

// certificateSource accepts what TLS has verified.
type certificateSource struct{ config Certificate }

func (s *certificateSource) judge(_ context.Context, _ turns, q *question) verdict {
	switch {
	case q.certified() == "":
		return undecided()
	case q.HasUser && q.userName() != q.certified() && !s.config.AnyUserName:
		return refuse("user name is not that of the certificate")
	}
	return accept(q.certified())
}
