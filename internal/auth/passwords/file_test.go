package passwords

import (
	"errors"
	"strings"
	"testing"
)

const (
	quick    = "$6$7qenIu4F59KJvFRa$zjWZxmZRC9Te4NDdErR1VgOgjoWYR6NWDHlrhyN1Da82MIwu7UYpZWtyUfWtbJgENLo8wIkGMlH9IeiebxqYMw==" // secret
	verifier = "$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)

func TestParse(t *testing.T) {
	f, err := Parse("p", []byte("# users\r\n\n  \nalice:"+quick+"  \r\nbob:"+verifier+"\nalice:"+verifier+"\nmüller x:"+quick))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, u := range f.Users() {
		names = append(names, u.Name)
	}
	if got := strings.Join(names, ","); got != "alice,bob,müller x" {
		t.Errorf("the users are %s", got)
	}
	alice, bob := f.Find("alice"), f.Find("bob")
	if alice.Hash == nil || alice.SCRAM == nil || bob.Hash != nil || bob.SCRAM == nil {
		t.Error("hashes and verifiers are not where they belong")
	}
	if !alice.Check([]byte("secret")) || alice.Check([]byte("pencil")) || !bob.Check([]byte("pencil")) {
		t.Error("the hash must count, and the verifier where there is no hash")
	}
	if f.Find("Alice") != nil || f.Find("# users") != nil || f.Find("") != nil {
		t.Error("somebody is found who is not there")
	}
	if f.FindSCRAM("bob") != bob || f.FindSCRAM("müller x") != nil || f.FindSCRAM("bo\u00adb") != bob {
		t.Error("SCRAM names are not found after SASLprep")
	}
	if len(f.Verifiers()) != 2 || f.Decoy(7) != &f.Users()[1] {
		t.Error("verifiers or decoy are wrong")
	}
}

func TestBadLines(t *testing.T) {
	good := "alice:" + quick + "\n"
	for _, c := range []struct {
		text string
		line int
		want string
	}{
		{good + "bob", 2, "USER:HASH"},
		{good + "\n#\nbob:hunter2", 4, "known forms"},
		{good + "alice:" + quick, 2, "two hashes"},
		{good + "alice:" + verifier + "\nalice:" + verifier, 3, "two SCRAM"},
		{"bob:" + verifier + "\nbo\u00adb:" + verifier, 2, "same for SCRAM"},
		{":" + quick, 1, "empty"},
		{"a\xffb:" + quick, 1, "UTF-8"},
		{"a\x01b:" + quick, 1, "control"},
		{" a:" + quick, 1, "space"},
		{strings.Repeat("a", 257) + ":" + quick, 1, "longer than 256"},
		{good + strings.Repeat("x", 3000), 2, "longer than 2048"},
		{"\ufdd0\u0340:" + verifier, 1, "SCRAM does not allow"},
	} {
		_, err := Parse("users", []byte(c.text))
		var at *LineError
		if !errors.As(err, &at) || at.Line != c.line || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: error %v, want line %d and %q", c.text, err, c.line, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error tells a password: %v", err)
		}
	}
}

func TestEdit(t *testing.T) {
	text := []byte("# who\nalice:old\n\nbob:b\n# alice again\nalice:old2\n# end")
	got := string(Set(text, "alice", "new", "scram"))
	if want := "# who\nalice:new\nalice:scram\n\nbob:b\n# alice again\n# end\n"; got != want {
		t.Errorf("replaced:\n%s", got)
	}
	if got, want := string(Set(text, "carol", "c")), string(text)+"\ncarol:c\n"; got != want {
		t.Errorf("added:\n%s", got)
	}
	if got := string(Set(nil, "carol", "c")); got != "carol:c\n" {
		t.Errorf("the first:\n%s", got)
	}
	without, found := Delete(text, "alice")
	if want := "# who\n\nbob:b\n# alice again\n# end\n"; string(without) != want || !found {
		t.Errorf("deleted (%v):\n%s", found, without)
	}
	if _, found := Delete(text, "ali"); found {
		t.Error("ali was found")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("alice:"+quick+"\n# x\n\nbob:"+verifier), "bob")
	f.Add([]byte("alice"), "")
	f.Fuzz(func(t *testing.T, text []byte, user string) {
		file, err := Parse("p", text)
		if err != nil {
			return
		}
		known := file.Find(user)
		if CheckName(user) != nil {
			if known != nil {
				t.Errorf("%q is no name, and is in the file", user)
			}
			return
		}
		without, found := Delete(text, user)
		after, err := Parse("p", without)
		if err != nil || found != (known != nil) || after.Find(user) != nil {
			t.Errorf("after %q was deleted: error %v", user, err)
		}
		if after, err := Parse("p", Set(text, user, quick)); err != nil || after.Find(user) == nil || after.Find(user).Hash == nil {
			t.Errorf("after %q was set: error %v", user, err)
		}
	})
}
