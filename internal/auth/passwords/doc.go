// Package passwords reads, checks and writes password files.
//
// A line of such a file is a user and what the user's password is checked with:
//
//	# a comment
//	alice:$argon2id$v=19$m=65536,t=3,p=1$<salt>$<hash>
//	alice:$scram-sha-256$8192$<salt>$<stored key>$<server key>
//
// These forms are understood:
//
//	$argon2id$v=19$m=,t=,p=$salt$hash         Argon2id (RFC 9106), base64 without padding
//	$2a$, $2b$, $2y$                          bcrypt
//	$7$iterations$salt$hash                   PBKDF2 with HMAC-SHA-512, as mosquitto_passwd writes it
//	$6$salt$hash                              SHA-512 of password and salt, as old versions of mosquitto_passwd wrote it
//	$scram-sha-256$iterations$salt$stored$server   a SCRAM verifier (RFC 7677), base64 with padding
//
// A user has one hash, one SCRAM verifier, or both. The verifier serves clients that authenticate with SCRAM-SHA-256,
// and, if there is no hash, those that send a password. Whatever a hash costs is bounded: a line that would take a
// machine's memory, or seconds of its time, is refused when the file is read.
package passwords
