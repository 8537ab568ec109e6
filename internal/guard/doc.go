// Package guard holds off those who guess passwords.
//
// It counts failed logins by address: an IPv4 address, or the /64 of an IPv6 address, for that is what one customer
// has. The answer to a failed login is held back, twice as long each time. After some failures within a window the
// address is locked out for a time: its connections are refused when they are accepted, and its logins that are on
// their way, right or wrong, are refused too.
//
// A login that succeeds takes nothing back: somebody with an account of their own could else guess for ever. What is
// kept is bounded. Addresses that are locked out are kept apart from those that have merely failed, so that many
// strangers who fail once cannot push out one that is locked.
//
// Each failed login is one line of the log, in a form that fail2ban reads (see deploy/fail2ban):
//
//	level=WARN msg="login failed" address=203.0.113.7 listener=tls user=alice client_id=c1 reason="wrong password"
package guard
