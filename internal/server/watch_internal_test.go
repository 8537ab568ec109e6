package server

// LookNow has the watch look at the clock, as it does once a second.
func (s *Server) LookNow() { s.watch.ring() }
