package passwords

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// Bounds of a file.
const (
	MaxFileSize = 64 << 20 // bytes
	maxLine     = 2048     // bytes
	maxUser     = 256      // bytes
)

// User is one user of a file.
type User struct {
	Name  string
	Hash  Hash   // nil: there is only a SCRAM verifier
	SCRAM *SCRAM // nil: there is only a hash
}

// Check tells whether the password is the user's: by the hash, or by the SCRAM verifier if there is no hash.
func (u *User) Check(password []byte) bool {
	if u.Hash != nil {
		return u.Hash.Check(password)
	}
	return u.SCRAM.Check(password)
}

// File is what a password file says.
type File struct {
	byName  map[string]int // into users
	byScram map[string]int // the same by name after SASLprep, those with a verifier only
	users   []User         // in the order of the file
	scram   []*SCRAM       // in the order of the file
}

// Users gives the users in the order of the file. Do not change it.
func (f *File) Users() []User { return f.users }

// Verifiers gives the SCRAM verifiers in the order of the file. Do not change it.
func (f *File) Verifiers() []*SCRAM { return f.scram }

// Find returns a user by name, or nil.
func (f *File) Find(name string) *User {
	if i, ok := f.byName[name]; ok {
		return &f.users[i]
	}
	return nil
}

// FindSCRAM returns a user with a SCRAM verifier by the name that a SCRAM client gave, or nil.
func (f *File) FindSCRAM(name string) *User {
	prepared, err := Prepare(name)
	if err != nil {
		return nil
	}
	if i, ok := f.byScram[prepared]; ok {
		return &f.users[i]
	}
	return nil
}

// Decoy returns a user to check a password of an unknown user against, so that the answer takes as long as for a
// known one; nil if the file is empty. The same pick gives the same user.
func (f *File) Decoy(pick uint64) *User {
	if len(f.users) == 0 {
		return nil
	}
	return &f.users[pick%uint64(len(f.users))]
}

// Prepare brings a user name or password into the form that SCRAM compares (SASLprep, RFC 4013).
func Prepare(s string) (string, error) { return stringprep.SASLprep.Prepare(s) }

// LineError says what is wrong with a line of a file.
type LineError struct {
	File string
	Line int // from 1
	Err  error
}

// Error implements error.
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap implements errors.Unwrap.
func (e *LineError) Unwrap() error { return e.Err }

// Parse reads the text of a password file. name is for errors, which are a [LineError] where a line is wrong.
func Parse(name string, text []byte) (*File, error) {
	if len(text) > MaxFileSize {
		return nil, fmt.Errorf("%s: it is larger than %d bytes", name, MaxFileSize)
	}
	f := &File{byName: map[string]int{}, byScram: map[string]int{}}
	line := 0
	for raw := range bytes.Lines(text) {
		line++
		user, hash, err := splitLine(raw)
		if err == nil && user != "" {
			err = f.add(user, hash)
		}
		if err != nil {
			return nil, &LineError{name, line, err}
		}
	}
	return f, nil
}

// splitLine gives user and hash of a line, or "" for one that is blank or a comment.
func splitLine(raw []byte) (user, hash string, err error) {
	if len(raw) > maxLine {
		return "", "", fmt.Errorf("the line is longer than %d bytes", maxLine)
	}
	text := strings.TrimRight(string(raw), " \t\r\n")
	if text == "" || text[0] == '#' {
		return "", "", nil
	}
	user, hash, found := strings.Cut(text, ":")
	if !found {
		return "", "", errors.New("the line is not USER:HASH")
	}
	return user, hash, CheckName(user)
}

// CheckName says why a name cannot stand in a file.
func CheckName(user string) error {
	switch {
	case user == "":
		return errors.New("the user name is empty")
	case len(user) > maxUser:
		return fmt.Errorf("the user name is longer than %d bytes", maxUser)
	case !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl):
		return errors.New("the user name is not UTF-8, or has control characters")
	case strings.Contains(user, ":") || user[0] == '#':
		return errors.New("a user name in a password file can have no colon, and no # in front")
	case strings.TrimSpace(user) != user:
		return errors.New("the user name begins or ends with space")
	}
	return nil
}

func (f *File) add(name, text string) error {
	hash, err := ParseHash(text)
	if err != nil {
		return err
	}
	i, known := f.byName[name]
	if !known {
		i = len(f.users)
		f.users = append(f.users, User{Name: name})
		f.byName[name] = i
	}
	if verifier, ok := hash.(*SCRAM); ok {
		return f.addSCRAM(i, verifier)
	}
	if f.users[i].Hash != nil {
		return fmt.Errorf("user %q has two hashes", name)
	}
	f.users[i].Hash = hash
	return nil
}

func (f *File) addSCRAM(i int, verifier *SCRAM) error {
	name := f.users[i].Name
	if f.users[i].SCRAM != nil {
		return fmt.Errorf("user %q has two SCRAM verifiers", name)
	}
	prepared, err := Prepare(name)
	if err != nil {
		return fmt.Errorf("user %q: the name has characters that SCRAM does not allow (RFC 4013)", name)
	}
	if other, taken := f.byScram[prepared]; taken {
		return fmt.Errorf("users %q and %q are the same for SCRAM (RFC 4013)", f.users[other].Name, name)
	}
	f.users[i].SCRAM, f.byScram[prepared] = verifier, i
	f.scram = append(f.scram, verifier)
	return nil
}

// Kinds names what the user's password can be checked with, for people.
func (u *User) Kinds() string {
	var kinds []string
	switch u.Hash.(type) {
	case *argon2Hash:
		kinds = append(kinds, "argon2id")
	case bcryptHash:
		kinds = append(kinds, "bcrypt")
	case *pbkdf2Hash:
		kinds = append(kinds, "pbkdf2-sha512")
	case *sha512Hash:
		kinds = append(kinds, "sha512")
	}
	if u.SCRAM != nil {
		kinds = append(kinds, "scram-sha-256")
	}
	return strings.Join(kinds, ",")
}
