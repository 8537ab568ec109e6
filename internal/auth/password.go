package auth

import (
	"context"
	"fmt"
	"os"

	"github.com/vouchmq/vouchmq/internal/auth/passwords"
)

// passwordSource knows the users of a password file.
type passwordSource struct {
	file *passwords.File
	pick func(purpose, name string) uint64
}

func openPasswords(c *Passwords, a *Authenticator) (*passwordSource, error) {
	text, err := readFile(c.File, passwords.MaxFileSize)
	if err != nil {
		return nil, fmt.Errorf("passwords: %w", err)
	}
	file, err := passwords.Parse(c.File, text)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(c.File); err == nil && info.Mode().Perm()&0o007 != 0 {
		a.log.Warn("everybody on this machine can read or change the password file: make its mode 0600", "file", c.File)
	}
	return &passwordSource{file, a.pick}, nil
}

func (s *passwordSource) judge(ctx context.Context, turn turns, q *question) verdict {
	if !q.HasUser || !q.HasPassword {
		return undecided()
	}
	user := s.file.Find(q.userName())
	checked := user
	if user == nil { // checking somebody else takes as long, and does not tell that there is no such user
		checked = s.file.Decoy(s.pick("decoy", q.userName()))
	}
	if checked == nil {
		return undecided()
	}
	if !turn.take(ctx) {
		return notNow("the client left before its password was checked")
	}
	right := checked.Check(q.Password)
	turn.give()
	switch {
	case user == nil:
		return undecided()
	case !right:
		return refuse("wrong password")
	}
	return accept(user.Name)
}
