package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/vouchmq/vouchmq/internal/server/enrolment"
	"github.com/vouchmq/vouchmq/internal/server/settings"
)

// KeeperConfig says how a Keeper works. Zero times are defaults.
type KeeperConfig struct {
	Server *Server
	Opened *Opened // what the server runs with
	// Read reads the settings anew, for a whole reload.
	Read func() (*settings.Settings, error)
	// Reloaded is called after a whole reload has come into force; may be nil. Its error is logged.
	Reloaded func(*Opened) error
	Log      *slog.Logger

	Debounce time.Duration    // quiet time after which changed files are read; 500 ms
	Poll     time.Duration    // time between looks without being told, since not every file system tells; 1 min
	Now      func() time.Time // nil is time.Now
}

// Keeper keeps a running broker in accord with its files. A whole reload reads everything, when somebody asks for
// it. Keys, certificates and revocation lists are also watched: when they change, they alone are read, and put in
// force once they fit each other. Until then, and whenever something is wrong, what was in force stays in force.
type Keeper struct {
	config KeeperConfig

	mu     sync.Mutex // held while files are read and put in force
	opened *Opened
	seen   [sha256.Size]byte // of the watched files that are in force
	failed [sha256.Size]byte // of those that could not be used, and have been complained of
	warned time.Time         // when certificates were last looked at

	moved chan struct{} // a reload may have named files in other folders

	renewal enrolment.Renewal // for a broker whose owner is elsewhere
}

// NewKeeper returns a keeper. Run makes it watch.
func NewKeeper(config KeeperConfig) *Keeper {
	merge(&config.Debounce, 500*time.Millisecond)
	merge(&config.Poll, time.Minute)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{config: config, opened: config.Opened, seen: config.Opened.seen, moved: make(chan struct{}, 1)}
	k.renewal.Folder = config.Opened.State.Enrolment
	return k
}

// Reload reads everything anew and puts it in force. If anything is wrong with it, all stays as it is; the error, which
// is also logged, says what and where.
func (k *Keeper) Reload(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.reload(ctx)
	if err != nil {
		k.config.Log.Error("RELOAD FAILED: the configuration is as it was", "error", err)
	}
	return err
}

func (k *Keeper) reload(ctx context.Context) error {
	read, err := k.config.Read()
	if err != nil {
		return err
	}
	opened, err := k.opened.Reopen(read, k.config.Now())
	if err != nil {
		return err
	}
	if err := k.config.Server.Reload(ctx, opened.Config); err != nil {
		return err
	}
	k.noteFormat(opened)
	k.opened, k.seen = opened, opened.seen
	select {
	case k.moved <- struct{}{}:
	default: // Run knows already
	}
	if k.config.Reloaded == nil {
		return nil
	}
	if err := k.config.Reloaded(opened); err != nil {
		k.config.Log.Error("the new configuration is in force, but", "error", err)
	}
	return nil
}

// noteFormat names what else a restart would change.
func (k *Keeper) noteFormat(opened *Opened) {
	if before := k.opened.Settings.Log.Format; before != opened.Settings.Log.Format {
		k.config.Log.Warn("log.format TAKES A RESTART; the old one stays until then", "format", before)
	}
}

// Run watches until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		k.config.Log.Warn("changed files are noticed late, by looking at them now and then", "error", err)
		watcher = &fsnotify.Watcher{} // its channels are nil: nothing ever comes
	} else {
		defer watcher.Close()
	}
	poll := time.NewTicker(k.config.Poll)
	defer poll.Stop()
	quiet := time.NewTimer(time.Hour)
	defer quiet.Stop()
	k.warnDaily()
	k.askRenewal(ctx)
	for k.follow(watcher); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-watcher.Events:
			quiet.Reset(k.config.Debounce)
		case err := <-watcher.Errors:
			k.config.Log.Warn("some changes of files may be noticed late", "error", err)
		case <-k.moved:
			k.follow(watcher)
			quiet.Reset(k.config.Debounce) // something may have changed before the folder was watched
		case <-quiet.C:
			k.Look(ctx)
		case <-poll.C:
			k.follow(watcher) // folders may have come
			k.Look(ctx)
			k.warnDaily()
			k.askRenewal(ctx)
		}
	}
}

// renewalTimeout is for making evidence, for which the slowest devices take half a minute.
const renewalTimeout = time.Minute

// askRenewal writes a request to the owner when two thirds of the certificate's time are over.
func (k *Keeper) askRenewal(ctx context.Context) {
	if k.renewal.Folder == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, renewalTimeout) // a reload waits for it
	defer cancel()
	config := &k.opened.Config
	leaf := config.Certificate.Leaf
	made, err := k.renewal.Ask(ctx, leaf, config.Attester, k.config.Server.Identity(), k.config.Now())
	switch file := k.renewal.Folder.Path(enrolment.RequestFile); {
	case err != nil:
		k.config.Log.Error("request for the renewal of the certificate could not be made", "error", err)
	case made:
		k.config.Log.Warn("CERTIFICATE IS DUE FOR RENEWAL: have the owner sign the request (vouchmq ca sign), and install what comes back "+
			"(vouchmq enroll --install); connections stay", "request", file, "expires", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
}

// follow watches the folders of all files: a file that is replaced is another file.
func (k *Keeper) follow(watcher *fsnotify.Watcher) {
	if watcher.Events == nil {
		return
	}
	for _, name := range k.watched() {
		if err := watcher.Add(filepath.Dir(name)); err != nil { // again does no harm
			k.config.Log.Debug("folder is not watched, only looked at now and then", "folder", filepath.Dir(name), "error", err)
		}
	}
}

func (k *Keeper) watched() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opened.Watched
}

// Look reads keys, certificates and revocation lists if they have changed since they were read last, and puts them in
// force. Files that do not fit each other are left for the next look.
func (k *Keeper) Look(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened.takeDelivered(k.config.Now())
	seen := fingerprint(k.opened.Watched)
	if seen == k.seen {
		return
	}
	config, err := k.opened.Refresh(k.config.Now())
	if err == nil {
		err = k.config.Server.Refresh(ctx, config)
	}
	if err == nil {
		k.seen, k.opened.Config = seen, config
		return
	}
	if k.failed != seen {
		k.failed = seen
		k.config.Log.Warn("CHANGED CERTIFICATE FILES ARE NOT USED, the old ones stay in force", "error", err)
	}
}

// warnDaily warns of certificates that expire, once a day, and issues that of the state folder anew in time: a look then
// finds it.
func (k *Keeper) warnDaily() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.config.Now()
	if now.Sub(k.warned) < 24*time.Hour {
		return
	}
	k.warned = now
	if err := k.opened.renew(now); err != nil {
		k.config.Log.Error("certificate of the state folder could not be issued anew", "error", err)
	}
	k.config.Server.WarnExpiring(now)
}

// fingerprint returns the digest of what is in files. One that cannot be read counts as empty.
func fingerprint(names []string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range names {
		addFile(h, name)
	}
	h.Sum(sum[:0])
	return sum
}

func addFile(h hash.Hash, name string) {
	b, err := os.ReadFile(name)
	if err != nil {
		b = nil
	}
	fmt.Fprintf(h, "%q %d ", name, len(b))
	h.Write(b)
}
