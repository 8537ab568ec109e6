package passwords

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cheap keeps tests quick.
var cheap = Argon2Params{Memory: 64, Time: 1, Threads: 1}

// vectors are hashes that other programs made.
var vectors = []struct{ name, password, hash string }{
	{"argon2id of the reference implementation", "password", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"},
	{"bcrypt 2a", "U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"},
	{"bcrypt 2y", "U*U", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"},
	{"mosquitto_passwd", "secret", "$7$101$nI4yLPLLX8uMvOZQ$fm8LN/gaotEEnNiw2rJenedeqds2Bn+kZQc72HJ7xa7++XOQMk2rcov+4Zlm4Ghb2TUwXbx/YrP5U6FpBfv+Fw=="},
	{"mosquitto_passwd -H sha512", "secret", "$6$7qenIu4F59KJvFRa$zjWZxmZRC9Te4NDdErR1VgOgjoWYR6NWDHlrhyN1Da82MIwu7UYpZWtyUfWtbJgENLo8wIkGMlH9IeiebxqYMw=="},
	// The keys of RFC 7677, section 3, computed from its password and salt.
	{"SCRAM", "pencil", "$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="},
}

func TestHashesOfOtherProgramsAreUnderstood(t *testing.T) {
	for _, v := range vectors {
		h, err := ParseHash(v.hash)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		if !h.Check([]byte(v.password)) {
			t.Errorf("%s: the right password is refused", v.name)
		}
		for _, wrong := range []string{"", v.password + "x", strings.ToUpper(v.password) + "!"} {
			if h.Check([]byte(wrong)) {
				t.Errorf("%s: %q is accepted", v.name, wrong)
			}
		}
	}
}

func TestFreshHashes(t *testing.T) {
	for _, password := range []string{"", "secret", "säge ☃", strings.Repeat("long ", 200)} {
		hash, err := HashArgon2([]byte(password), cheap)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := HashArgon2([]byte(password), cheap)
		if hash == again {
			t.Error("two hashes have the same salt")
		}
		h, err := ParseHash(hash)
		if err != nil || !h.Check([]byte(password)) || h.Check([]byte(password+"x")) {
			t.Errorf("%q: the hash %s does not tell right from wrong (error %v)", password, hash, err)
		}
	}
	verifier, err := HashSCRAM([]byte("pencil"), MinSCRAMIterations)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := ParseHash(verifier); err != nil || !h.Check([]byte("pencil")) || h.Check([]byte("pen")) {
		t.Errorf("the verifier %s does not tell right from wrong (error %v)", verifier, err)
	}
	if _, err := HashSCRAM([]byte("tab\tin it"), MinSCRAMIterations); err == nil {
		t.Error("a password that SCRAM does not allow gives a verifier")
	}
}

// TestBadHashes lists what must not be read: malformed, or so dear that a login would take the machine.
func TestBadHashes(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "known forms",
		"secret":                             "known forms",
		"$1$abcdefgh$abcdefghijklmnopqrstuv": "known forms",
		"$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":         "known forms",
		"$argon2id$v=16$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":        "form",
		"$argon2id$v=19$m=65536,p=1,t=2$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":        "form",
		"$argon2id$v=19$m=65536,t=2,p=1$c29t$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":               "salt",
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFh":                                               "salt",
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ=$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":       "form",
		"$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":      "m=4194304",
		"$argon2id$v=19$m=65536,t=1000,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":     "t=1000",
		"$argon2id$v=19$m=65536,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":        "t=0",
		"$argon2id$v=19$m=65536,t=2,p=0$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":        "p=0",
		"$argon2id$v=19$m=65536,t=2,p=257$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":      "threads",
		"$argon2id$v=19$m=4,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":            "m=4",
		"$argon2id$v=19$m=262144,t=8,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc":       "too long",
		"$argon2id$v=19$m=99999999999999999999,t=8,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZ": "form",
		"$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW":                                  "cost 31",
		"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe":                                   "bcrypt",
		"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyO~W":                                  "bcrypt",
		"$2b$05$": "bcrypt",
		"$7$99999999$nI4yLPLLX8uMvOZQ$fm8LN/gaotEEnNiw2rJenedeqds2Bn+kZQc72HJ7xa7++XOQMk2rcov+4Zlm4Ghb2TUwXbx/YrP5U6FpBfv+Fw==": "iterations",
		"$7$0$nI4yLPLLX8uMvOZQ$fm8LN/gaotEEnNiw2rJenedeqds2Bn+kZQc72HJ7xa7++XOQMk2rcov+4Zlm4Ghb2TUwXbx/YrP5U6FpBfv+Fw==":        "iterations",
		"$7$101$nI4yLPLLX8uMvOZQ$fm8L":               "hash",
		"$7$101$nI4yLPLLX8uMvOZQ":                    "$7$ITERATIONS",
		"$6$nI4yLPLLX8uMvOZQ$!":                      "base64",
		"$6$$":                                       "salt",
		"$scram-sha-256$1$AAAAAAAAAAAA$AAAA$AAAA":    "iterations",
		"$scram-sha-256$4096$AAAAAAAAAAAA$AAAA$AAAA": "keys",
		"$scram-sha-256$4096$AAAA$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=": "salt",
		"$scram-sha-256$4096$AAAAAAAAAAAA$AAAA":         "form",
		"$scram-sha-256$4096$AAAAAAAAAAAA$AAAA$AAAA$AA": "form",
	} {
		_, err := ParseHash(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

// TestMosquittoPasswd checks files of the program itself, where it is installed.
func TestMosquittoPasswd(t *testing.T) {
	tool, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("mosquitto_passwd is not installed, and CI=true")
		}
		t.Skip("mosquitto_passwd is not installed (Debian package mosquitto)")
	}
	file := filepath.Join(t.TempDir(), "passwords")
	for i, args := range [][]string{
		{"-c", "-b", file, "alice", "secret"},
		{"-H", "sha512", "-b", file, "bob", "päss wörd"},
		{"-H", "sha512-pbkdf2", "-b", file, "carol", "x:$y"},
	} {
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Fatalf("call %d: %v\n%s", i, err, out)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	for user, password := range map[string]string{"alice": "secret", "bob": "päss wörd", "carol": "x:$y"} {
		u := f.Find(user)
		if u == nil || !u.Check([]byte(password)) || u.Check([]byte(password+" ")) {
			t.Errorf("%s: right and wrong are not told apart", user)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.hash)
	}
	f.Fuzz(func(t *testing.T, text string) {
		const secret = "hunter2\u00a7"
		if _, err := ParseHash(text + secret); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the error repeats the text, or there is none: %v", text+secret, err)
		}
		h, err := ParseHash(text)
		if (h == nil) != (err != nil) {
			t.Errorf("%q: hash %v and error %v", text, h, err)
		}
		if s, ok := h.(*SCRAM); ok && s.String() != text {
			if again, err := ParseSCRAM(s.String()); err != nil || again.String() != s.String() {
				t.Errorf("%q is written as %q, which is read as %v", text, s, err)
			}
		}
	})
}
