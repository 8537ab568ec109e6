package collateral

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
)

const (
	seenFile = "seen.json"
	maxSize  = 1 << 20 // of a document, in bytes
)

// Store is a directory of documents. Many goroutines, and several processes, may use it at once: files are replaced whole, and
// what has changed is read anew.
type Store struct {
	dir  string
	root dcap.Root

	mu        sync.Mutex
	cached    map[Name]cached
	seen      map[string]uint32 // editions by Name.String
	seenStamp string            // of the file when it was read last
}

// cached is a document, or why it cannot be used, as of the time when its files were as stamped.
type cached struct {
	stamp string
	opened
	raw Document
	err error
}

// Open returns the store in a directory, which is made if it does not exist. What is in it is read, and verified under Intel's root,
// when it is needed.
func Open(dir string) (*Store, error) { return OpenUnder(dir, dcap.IntelRoot()) }

// OpenUnder is Open with another root, for tests within this module: nobody else can make one.
func OpenUnder(dir string, root dcap.Root) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open store of collateral: %w", err)
	}
	s := &Store{dir: dir, root: root, cached: map[Name]cached{}, seen: map[string]uint32{}}
	return s, s.readSeen()
}

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

// Collateral returns the documents for a kind of platform; nil if the store has no TCB info for it. Missing revocation lists are nil in it.
func (s *Store) Collateral(n Need) (*dcap.Collateral, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	documents, err := s.loadAll(n)
	if err != nil || documents == nil {
		return nil, err
	}
	return &dcap.Collateral{
		TCBInfo: documents[0].tcbInfo, QEIdentity: documents[1].qeIdentity, PCKCRL: documents[2].crl, RootCRL: documents[3].crl,
	}, nil
}

// Endorsements returns the documents for a kind of platform in the form in which evidence carries them; nil if the store has no TCB info for it.
func (s *Store) Endorsements(n Need) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	documents, err := s.loadAll(n)
	if err != nil || documents == nil {
		return nil, err
	}
	d := dcap.Documents{
		TCBInfo: documents[0].signed, QEIdentity: documents[1].signed,
		PCKCRL: documents[2].raw.Body, PCKCRLChain: documents[2].raw.Chain, RootCRL: documents[3].raw.Body,
	}
	return d.Encode()
}

// loadAll returns the documents in the order of Names; nil if there is no TCB info.
func (s *Store) loadAll(n Need) (documents []cached, err error) {
	for _, name := range Names(n) {
		d := s.load(name)
		switch {
		case errors.Is(d.err, fs.ErrNotExist) && name.Kind == TCBInfo:
			return nil, nil
		case errors.Is(d.err, fs.ErrNotExist) && name.Kind == QEIdentity:
			return nil, attest.Errorf(attest.ErrTCB, "collateral: %s is missing in %s: fetch it: %w", name.file(), s.dir, dcap.FaultNoCollateral)
		case errors.Is(d.err, fs.ErrNotExist):
			d = cached{} // the verifier judges whether it can do without
		case d.err != nil:
			return nil, d.err
		}
		documents = append(documents, d)
	}
	return documents, nil
}

// MinEvaluation returns the highest evaluation number that has been seen for the TEE, 0 if none.
func (s *Store) MinEvaluation(t TEE) (highest uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stamp := s.stamp(seenFile); stamp != s.seenStamp && s.readSeen() == nil { // another process has seen more; else what is known here holds
		s.seenStamp = stamp
	}
	prefix := strings.ToLower(t.String()) + "-"
	for name, number := range s.seen {
		if strings.HasPrefix(name, prefix) {
			highest = max(highest, number)
		}
	}
	return highest
}

// load returns a document from memory, or from its files if they have changed.
func (s *Store) load(name Name) cached {
	stamp := s.stamp(name.file()) + " " + s.stamp(name.chainFile())
	if c, ok := s.cached[name]; ok && c.stamp == stamp {
		return c
	}
	c := cached{stamp: stamp}
	if c.raw, c.err = s.read(name); c.err == nil {
		c.opened, c.err = c.raw.open(s.root)
	}
	if c.err == nil {
		c.err = s.note(name, c.edition())
	}
	s.cached[name] = c
	return c
}

func (s *Store) stamp(file string) string {
	info, err := os.Stat(filepath.Join(s.dir, file))
	if err != nil {
		return "-"
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size())
}

func (s *Store) read(name Name) (d Document, err error) {
	d.Name = name
	if d.Body, err = s.readFile(name.file()); err != nil {
		return d, err
	}
	d.Chain, err = s.readFile(name.chainFile())
	if errors.Is(err, fs.ErrNotExist) {
		return d, attest.Errorf(attest.ErrTCB, "collateral: %s is in %s, and the certificates of who signed it, %s, are missing: fetch both, or copy the other file, too: %w",
			name.file(), s.dir, name.chainFile(), dcap.FaultNoCollateral)
	}
	return d, err
}

func (s *Store) readFile(file string) ([]byte, error) {
	path := filepath.Join(s.dir, file)
	info, err := os.Stat(path)
	if err == nil && (info.Size() > maxSize || !info.Mode().IsRegular()) {
		return nil, fmt.Errorf("collateral: %s is no file, or larger than %d bytes", path, maxSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("collateral: %w", err)
	}
	return data, nil
}

// see refuses a number below the one seen, and remembers a higher one.
func (s *Store) see(name Name, number uint32) error {
	if highest := s.seen[name.String()]; number < highest {
		return attest.Errorf(attest.ErrFreshness, "collateral: %s is %s, and %s has been seen: somebody offers older statements: %w",
			name, name.edition(number), name.edition(highest), dcap.FaultRollback)
	}
	if number > 0 {
		s.seen[name.String()] = number
	}
	return nil
}

// note is see for a document that somebody else has put into the directory. What it has raised is kept there for later processes; where
// the directory is only to be read, this process remembers it by itself.
func (s *Store) note(name Name, number uint32) error {
	_ = s.readSeen() // what other processes have seen; if it cannot be read any more, what is known here holds
	before := s.seen[name.String()]
	if err := s.see(name, number); err != nil || number <= before {
		return err
	}
	_ = s.writeSeen()
	return nil
}

// Put verifies a document and keeps it in place of the one of its name. It refuses one that is expired at the time now, or of
// an older edition than has been seen.
func (s *Store) Put(d Document, now time.Time) error {
	o, err := d.open(s.root)
	if err != nil {
		return err
	}
	if err := o.checkTime(now); err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readSeen(); err != nil {
		return err
	}
	if err := s.see(d.Name, o.edition()); err != nil {
		return err
	}
	if err := s.writeSeen(); err != nil {
		return err
	}
	if err := s.write(d.Name.chainFile(), d.Chain); err != nil {
		return err
	}
	return s.write(d.Name.file(), d.Body)
}

// write replaces a file whole.
func (s *Store) write(file string, data []byte) error {
	temporary, err := os.CreateTemp(s.dir, ".new-*")
	if err != nil {
		return fmt.Errorf("collateral: %w", err)
	}
	defer os.Remove(temporary.Name()) // gone already if all went well
	_, err = temporary.Write(data)
	err = errors.Join(err, temporary.Chmod(0o644), temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), filepath.Join(s.dir, file))
	}
	if err != nil {
		return fmt.Errorf("collateral: write %s: %w", file, err)
	}
	return nil
}

// readSeen takes over the numbers of the file that are higher: another process may have written them.
func (s *Store) readSeen() error {
	data, err := s.readFile(seenFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var numbers map[string]uint32
	if err == nil {
		err = json.Unmarshal(data, &numbers)
	}
	if err != nil {
		return fmt.Errorf("collateral: %s, which remembers what was the newest, cannot be read: %w", seenFile, err)
	}
	for name, number := range numbers {
		s.seen[name] = max(s.seen[name], number)
	}
	return nil
}

func (s *Store) writeSeen() error {
	data, err := json.MarshalIndent(s.seen, "", "\t")
	if err != nil {
		return fmt.Errorf("collateral: %w", err)
	}
	return s.write(seenFile, append(data, '\n'))
}

// Entry is what a store has under one name.
type Entry struct {
	Name       Name
	Issued     time.Time
	Expires    time.Time
	Evaluation uint32 // 0 of revocation lists
	Revoked    int    // certificates, of revocation lists
	Err        error  // why it cannot be used; then only Name is sure to be set
}

// List returns what the store has, sorted by name, and whether it can be used at the time now.
func (s *Store) List(now time.Time) ([]Entry, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Entry
	for _, name := range names {
		d := s.load(name)
		e := Entry{Name: name, Err: d.err}
		if d.err == nil {
			e.Issued, e.Expires = d.validity()
			e.Evaluation, e.Err = d.evaluation(), d.checkTime(now)
		}
		if d.crl != nil {
			e.Revoked = d.crl.Len()
		}
		list = append(list, e)
	}
	return list, nil
}

// names returns those of all documents, sorted.
func (s *Store) names() ([]Name, error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("collateral: %w", err)
	}
	byFile := map[string]Name{}
	for _, f := range files {
		if name, ok := parseName(f.Name()); ok {
			byFile[f.Name()] = name
		}
	}
	var names []Name
	for _, file := range slices.Sorted(maps.Keys(byFile)) {
		names = append(names, byFile[file])
	}
	return names, nil
}
