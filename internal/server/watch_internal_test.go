package server

// LookNow has the watch look at the clock, as it does once a second.
func (s *Server) LookNow() { s.watch.ring() }

// Changed reports whether a keeper would find that files have changed since they were read.
func (o *Opened) Changed() bool { return fingerprint(o.Watched) != o.seen }
