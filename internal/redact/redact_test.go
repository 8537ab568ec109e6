package redact_test

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vouchmq/vouchmq/internal/redact"
)

func with(t *testing.T, key string) redact.Func {
	t.Helper()
	f, err := redact.With([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestHiddenNames(t *testing.T) {
	one, other := with(t, strings.Repeat("a", 32)), with(t, strings.Repeat("b", 32))
	form := regexp.MustCompile(`^#[0-9a-f]{12}$`)
	for _, name := range []string{"x", "client 1", "\x00\n", strings.Repeat("long", 10_000)} {
		got := one(name)
		switch {
		case !form.MatchString(got):
			t.Errorf("%.20q is shown as %q", name, got)
		case got != one(name):
			t.Errorf("%.20q is not shown twice as the same", name)
		case got == other(name):
			t.Errorf("%.20q is the same under another key", name)
		case got == one(name+"x"):
			t.Errorf("%.20q is the same as another name", name)
		}
	}
	if got := one(""); got != "" {
		t.Errorf("no name is shown as %q", got)
	}
}

// TestHiddenNameIsHMAC pins the form with the second test case of RFC 4231, whose key is padded to the least size.
func TestHiddenNameIsHMAC(t *testing.T) {
	key := "Jefe" + strings.Repeat("\x00", 12) // HMAC pads keys with zeroes anyway
	if got := with(t, key)("what do ya want for nothing?"); got != "#5bdcc146bf60" {
		t.Error(got)
	}
}

func TestTheKeyIsCopied(t *testing.T) {
	key := bytes.Repeat([]byte{1}, redact.KeySize)
	f, err := redact.With(key)
	if err != nil {
		t.Fatal(err)
	}
	before := f("x")
	key[0] = 2
	if f("x") != before {
		t.Error("a change of the caller's key changes the hash")
	}
}

func TestShortKeysAreRefused(t *testing.T) {
	if _, err := redact.With(make([]byte, redact.MinKeySize-1)); !errors.Is(err, redact.ErrShortKey) {
		t.Errorf("error %v", err)
	}
	if _, err := redact.NewKey(bytes.NewReader(make([]byte, redact.KeySize-1))); err == nil {
		t.Error("a key is made of too little randomness")
	}
	key, err := redact.NewKey(bytes.NewReader(make([]byte, redact.KeySize)))
	if err != nil || len(key) != redact.KeySize {
		t.Errorf("key of %d bytes, error %v", len(key), err)
	}
}

func TestPlainIsCut(t *testing.T) {
	if got := redact.Plain("short"); got != "short" {
		t.Error(got)
	}
	got := redact.Plain(strings.Repeat("ä", 200)) // 400 bytes
	if !utf8.ValidString(got) || len(got) > 259 || !strings.HasSuffix(got, "...") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	if got := redact.Plain("x" + strings.Repeat("ä", 200)); !utf8.ValidString(got) {
		t.Errorf("cut within a character: %q", got)
	}
}
