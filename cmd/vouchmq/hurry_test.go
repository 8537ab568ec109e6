package main

import (
	"context"
	"os"
	"testing"
)

// A second signal runs nothing that is deferred, and still leaves no folder.
func TestHurryRemovesFolders(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, hurried := withHurry(t.Context())
	var there string
	err := withBrokers(ctx, func(dir string) error {
		there = dir
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
		hurried()
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the folder is there: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// What has ended on its own is done with.
	if err := os.Mkdir(there, 0o700); err != nil {
		t.Fatal(err)
	}
	hurried()
	if _, err := os.Stat(there); err != nil {
		t.Error(err)
	}
	if err := withBrokers(context.Background(), func(string) error { return nil }); err != nil {
		t.Error(err)
	}
}
