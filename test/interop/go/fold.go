package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	catalog "waymark.example/interop/gen/waymark/catalog/v1"
	discovery "waymark.example/interop/gen/waymark/discovery/v1"
)

// fold is what a reader of CatalogWatch holds: the rules of docs/guides/watch.md in one type.
type fold struct {
	// held has the newest delta of every key.
	held map[string]*catalog.DiscoveryDelta
	// listed has the keys told since BEGIN; nil outside a snapshot.
	listed map[string]bool
	// replaces has the namespaces a scoped snapshot speaks for; empty means all.
	replaces []string
	// short and portable are the newest cursors to resume from.
	short, portable string
	seen            tally
}

// tally counts what a reader was told.
type tally struct {
	Messages  int `json:"messages"`
	Creates   int `json:"creates"`
	Updates   int `json:"updates"`
	Removes   int `json:"removes"`
	Snapshots int `json:"snapshots"`
	Bookmarks int `json:"bookmarks"`
	Digests   int `json:"digests"`
}

func newFold() *fold { return &fold{held: map[string]*catalog.DiscoveryDelta{}} }

func keyText(key *catalog.EntryKey) string {
	return fmt.Sprintf("%s\x00%s\x00%d\x00%s\x00%s", key.Namespace, key.Name, key.Kind, key.InstanceId, key.ClusterId)
}

// apply folds one message. It fails when count or digest say that this reader is not where the server thinks it is.
func (f *fold) apply(message *discovery.CatalogWatchResponse) error {
	f.seen.Messages++
	if message.Snapshot == catalog.Snapshot_SNAPSHOT_BEGIN {
		f.listed, f.replaces = map[string]bool{}, message.Replaces
		f.seen.Snapshots++
	}
	for _, delta := range message.Deltas {
		f.change(delta)
	}
	if message.Snapshot == catalog.Snapshot_SNAPSHOT_END {
		f.dropUnlisted()
	}
	if f.listed != nil {
		return nil // Inside a snapshot nothing is known to be whole: no cursor, no digest.
	}
	if message.Cursor != "" {
		f.short = message.Cursor
	}
	if message.PortableCursor != "" {
		f.portable = message.PortableCursor
	}
	if message.Bookmark {
		f.seen.Bookmarks++
	}
	if message.Bookmark || message.Snapshot == catalog.Snapshot_SNAPSHOT_END {
		return f.check(message)
	}
	return nil
}

func (f *fold) change(delta *catalog.DiscoveryDelta) {
	switch delta.Action {
	case catalog.DiscoveryDelta_ACTION_CREATE, catalog.DiscoveryDelta_ACTION_UPDATE:
		if delta.Action == catalog.DiscoveryDelta_ACTION_CREATE {
			f.seen.Creates++
		} else {
			f.seen.Updates++
		}
		text := keyText(delta.GetEntry().Key)
		f.held[text] = delta
		if f.listed != nil {
			f.listed[text] = true
		}
	case catalog.DiscoveryDelta_ACTION_REMOVE:
		f.seen.Removes++
		delete(f.held, keyText(delta.GetRemoved()))
	}
}

// dropUnlisted ends a snapshot: what it speaks for and did not list is not there.
func (f *fold) dropUnlisted() {
	for text, delta := range f.held {
		isCovered := len(f.replaces) == 0 || slices.Contains(f.replaces, delta.Namespace)
		if isCovered && !f.listed[text] {
			delete(f.held, text)
		}
	}
	f.listed, f.replaces = nil, nil
}

// broken is called when a stream ends: a snapshot it was in the middle of is void.
func (f *fold) broken() { f.listed, f.replaces = nil, nil }

// digest sums the first 8 bytes of SHA-256(delta_id) over what is held, modulo 2^64.
func (f *fold) digest() uint64 {
	var sum uint64
	for delta := range maps.Values(f.held) {
		hash := sha256.Sum256([]byte(delta.DeltaId))
		sum += binary.BigEndian.Uint64(hash[:8])
	}
	return sum
}

func (f *fold) check(message *discovery.CatalogWatchResponse) error {
	f.seen.Digests++
	if message.Count != uint64(len(f.held)) || message.Digest != f.digest() {
		return fmt.Errorf("hold %d with digest %d, the server says %d with digest %d",
			len(f.held), f.digest(), message.Count, message.Digest)
	}
	return nil
}
