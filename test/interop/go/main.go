// Command interop is a client of Waymark made with Go's own tools: it registers, keeps alive, queries, watches, is cut
// off, resumes and checks what it holds against the server's digest. It prints one JSON object a line: an event when the
// test must restart the node, and last the summary. The test answers an event with the node's address on a line of stdin.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	catalog "waymark.example/interop/gen/waymark/catalog/v1"
	discovery "waymark.example/interop/gen/waymark/discovery/v1"
)

const (
	namespace = "interop.go"
	entries   = 250
	pageLimit = 40
	leaseTTL  = 10 * time.Second
	patience  = 60 * time.Second
)

// part is one stretch of a watch: how it began and what it told.
type part struct {
	BeganWithSnapshot bool  `json:"began_with_snapshot"`
	Told              tally `json:"told"`
	Held              int   `json:"held"`
}

type summary struct {
	Event         string  `json:"event"`
	NodeID        string  `json:"node_id"`
	Registered    int     `json:"registered"`
	SameLease     bool    `json:"same_lease"`
	Pages         int     `json:"pages"`
	Paged         int     `json:"paged"`
	BadEntry      refusal `json:"bad_entry"`
	BadToken      refusal `json:"bad_token"`
	BadCursor     refusal `json:"bad_cursor"`
	Resolved      string  `json:"resolved"`
	First         part    `json:"first"`
	Short         part    `json:"short"`
	Cut           refusal `json:"cut"`
	Farewell      bool    `json:"farewell"`
	ReRegistered  bool    `json:"re_registered"`
	Portable      part    `json:"portable"`
	ForeignShort  part    `json:"foreign_short"`
	Renewals      int64   `json:"renewals"`
	LeaseOutlived bool    `json:"lease_outlived"`
	Unregistered  uint32  `json:"unregistered"`
	Left          int     `json:"left"`
}

// run is one pass through the scenario.
type run struct {
	client  discovery.DiscoveryServiceClient
	conn    *grpc.ClientConn
	lease   string
	mine    map[string]*catalog.Entry // What this program has registered, by instance id.
	fold    *fold
	renewed atomic.Int64
	alive   context.CancelFunc
	out     summary
}

func main() {
	address := flag.String("address", "", "host:port of the node's gRPC listener")
	shardKeys := flag.String("shard-keys", "", "check the shards of the keys in this file, and do nothing else")
	nodes := flag.String("stay", "", "stay registered on one of these nodes until SIGTERM, and do nothing else: host:port,…")
	flag.Parse()
	if *shardKeys != "" || *nodes != "" {
		var err error
		if *nodes == "" {
			err = checkShardKeys(*shardKeys)
		} else {
			err = stay(strings.Split(*nodes, ","))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "failed:", err)
			os.Exit(1)
		}
		return
	}
	r := &run{mine: map[string]*catalog.Entry{}, fold: newFold()}
	if err := r.all(context.Background(), *address); err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
	r.out.Event = "done"
	_ = json.NewEncoder(os.Stdout).Encode(r.out)
}

func (r *run) all(ctx context.Context, address string) error {
	began := time.Now()
	if err := r.connect(ctx, address); err != nil {
		return err
	}
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"refusals", r.refusals},
		{"register", r.register},
		{"pages", r.pages},
		{"watch and short cursor", r.watchAndResume},
		{"restart and portable cursor", r.restart},
		{"foreign short cursor", r.foreignShort},
	}
	for _, step := range steps {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	// Longer than the lease: only the renewals can have kept it.
	if left := leaseTTL + time.Second - time.Since(began); left > 0 {
		time.Sleep(left)
	}
	r.out.LeaseOutlived = true
	return r.leave(ctx)
}

// connect dials and renews the lease, if there is one, from a goroutine of its own.
func (r *run) connect(ctx context.Context, address string) error {
	if r.conn != nil {
		r.alive()
		_ = r.conn.Close()
	}
	var err error
	if r.client, r.conn, err = dial(address); err != nil {
		return err
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := r.client.ServerInfo(callCtx, &discovery.ServerInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	r.out.NodeID = info.NodeId
	return nil
}

func (r *run) renewInBackground(ctx context.Context) {
	ctx, r.alive = context.WithCancel(ctx)
	client, lease := r.client, r.lease
	go func() {
		_ = keepAlive(ctx, client, lease, func() { r.renewed.Add(1) })
	}()
}

func (r *run) refusals(ctx context.Context) (err error) {
	_, refused := register(ctx, r.client, "", leaseTTL, instance("Not.A.Namespace", "web", "i0", ""))
	if r.out.BadEntry, err = wanted(refused, "InvalidArgument", "INVALID_ARGUMENT"); err != nil {
		return err
	}
	stream, err := r.client.CatalogWatch(ctx, &discovery.CatalogWatchRequest{Namespace: namespace, Cursor: "s1.forged"})
	if err != nil {
		return err
	}
	_, refused = stream.Recv()
	r.out.BadCursor, err = wanted(refused, "InvalidArgument", "INVALID_ARGUMENT")
	return err
}

func (r *run) register(ctx context.Context) error {
	var batch []*catalog.Entry
	for i := range entries {
		entry := instance(namespace, fmt.Sprintf("svc-%02d", i%20), fmt.Sprintf("i%03d", i), "first")
		entry.Metadata["filler"] = fmt.Sprintf("%0300d", i) // A snapshot of several messages.
		r.mine[entry.Key.InstanceId] = entry
		batch = append(batch, entry)
	}
	// Retried with the same key, as after a lost answer: the same lease comes back.
	request := &discovery.RegisterRequest{Entries: batch, Ttl: durationpb.New(leaseTTL), IdempotencyKey: fmt.Sprintf("go-%d", time.Now().UnixNano())}
	for range 2 {
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		response, err := r.client.Register(callCtx, request)
		cancel()
		if err != nil {
			return err
		}
		r.out.SameLease = response.LeaseId == r.lease
		r.lease = response.LeaseId
	}
	r.out.Registered = len(batch)
	r.renewInBackground(ctx)
	return nil
}

func (r *run) pages(ctx context.Context) error {
	items, pages, err := query(ctx, r.client, namespace, pageLimit)
	if err != nil {
		return err
	}
	r.out.Pages, r.out.Paged = pages, len(items)
	keys := make([]string, len(items))
	for i, item := range items {
		keys[i] = keyText(item.Key)
		if item.NodeId != r.out.NodeID || r.mine[item.Key.InstanceId] == nil {
			return fmt.Errorf("did not register %v", item.Key)
		}
	}
	if !slices.IsSorted(keys) || len(slices.Compact(keys)) != len(items) {
		return errors.New("the pages are not in key order, or repeat a key")
	}
	first, err := r.client.CatalogQuery(ctx, &discovery.CatalogQueryRequest{Namespace: namespace, Limit: 1})
	if err != nil {
		return err
	}
	_, refused := r.client.CatalogQuery(ctx, &discovery.CatalogQueryRequest{Namespace: "interop.other", Limit: 1, PageToken: first.NextPageToken})
	if r.out.BadToken, err = wanted(refused, "InvalidArgument", "INVALID_ARGUMENT"); err != nil {
		return err
	}
	resolved, err := r.client.Resolve(ctx, &discovery.ResolveRequest{Namespace: namespace, Name: "svc-07"})
	if err != nil {
		return err
	}
	r.out.Resolved = fmt.Sprintf("%s at %s:%d", resolved.Entry.Key.Name, resolved.Target.Host, resolved.Target.Port)
	return nil
}

// change makes one UPDATE, one REMOVE and one CREATE; round keeps the keys of one call apart from those of another.
func (r *run) change(ctx context.Context, round int) error {
	updated, removed := r.mine[fmt.Sprintf("i%03d", round)], r.mine[fmt.Sprintf("i%03d", 100+round)]
	updated.Metadata["note"] = fmt.Sprintf("round %d", round)
	created := instance(namespace, "late", fmt.Sprintf("late-%d", round), "new")
	if _, err := register(ctx, r.client, r.lease, 0, updated, created); err != nil {
		return err
	}
	r.mine[created.Key.InstanceId] = created
	gone, err := r.client.Unregister(ctx, &discovery.UnregisterRequest{Keys: []*catalog.EntryKey{removed.Key}})
	if err != nil {
		return err
	}
	if gone.Removed != 1 {
		return fmt.Errorf("removed %d entries instead of 1", gone.Removed)
	}
	delete(r.mine, removed.Key.InstanceId)
	return nil
}

// watch follows the namespace from a cursor ("" for a snapshot) and folds until isDone; then it cancels the stream.
func (r *run) watch(ctx context.Context, cursor string, bookmarks time.Duration, isDone func(*discovery.CatalogWatchResponse) bool) (part, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer r.fold.broken()
	var out part
	before := r.fold.seen
	request := &discovery.CatalogWatchRequest{
		Namespace:        namespace,
		Cursor:           cursor,
		WithDigest:       true,
		BookmarkInterval: durationpb.New(bookmarks),
	}
	stream, err := r.client.CatalogWatch(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return out, err
	}
	for isFirst := true; ; isFirst = false {
		message, err := stream.Recv()
		if err == nil {
			err = r.fold.apply(message)
		}
		out.Held, out.Told = len(r.fold.held), r.fold.seen.since(before)
		if err != nil {
			return out, err
		}
		if isFirst {
			out.BeganWithSnapshot = message.Snapshot == catalog.Snapshot_SNAPSHOT_BEGIN
		}
		if isDone(message) {
			return out, nil
		}
	}
}

func (t tally) since(before tally) tally {
	return tally{
		t.Messages - before.Messages, t.Creates - before.Creates, t.Updates - before.Updates, t.Removes - before.Removes,
		t.Snapshots - before.Snapshots, t.Bookmarks - before.Bookmarks, t.Digests - before.Digests,
	}
}

// isEqual says whether what the watch gave is what this program has registered, to the content.
func (r *run) isEqual() bool {
	if len(r.fold.held) != len(r.mine) {
		return false
	}
	for _, delta := range r.fold.held {
		entry := r.mine[delta.GetEntry().Key.InstanceId]
		if entry == nil || entry.Metadata["note"] != delta.GetEntry().Metadata["note"] {
			return false
		}
	}
	return true
}

// whole is a message that says "nothing is missing up to here", with the catalog as this program knows it.
func (r *run) whole(message *discovery.CatalogWatchResponse) bool {
	isEnd := message.Snapshot == catalog.Snapshot_SNAPSHOT_END
	return (message.Bookmark || isEnd) && r.isEqual()
}

func (r *run) watchAndResume(ctx context.Context) (err error) {
	isChanged := false
	r.out.First, err = r.watch(ctx, "", time.Second, func(message *discovery.CatalogWatchResponse) bool {
		if !r.whole(message) {
			return false
		}
		if isChanged {
			return true
		}
		isChanged = true // At END: now the same stream must bring three changes.
		err = r.change(ctx, 1)
		return err != nil
	})
	if err != nil {
		return err
	}
	if err = r.change(ctx, 2); err != nil {
		return err
	}
	r.out.Short, err = r.watch(ctx, r.fold.short, time.Second, r.whole)
	return err
}

// restart watches until the node is gone, and goes on at the address the test gives, from the portable cursor.
func (r *run) restart(ctx context.Context) error {
	if err := r.change(ctx, 3); err != nil {
		return err
	}
	isAsked := false
	// The difference is told, then a bookmark; from there they are 10 s apart: one that comes after the question is the last
	// word of a node that stops.
	_, broken := r.watch(ctx, r.fold.portable, 10*time.Second, func(message *discovery.CatalogWatchResponse) bool {
		r.out.Farewell = r.out.Farewell || (isAsked && message.Bookmark)
		if !isAsked && message.Bookmark && r.isEqual() {
			isAsked = true
			_ = json.NewEncoder(os.Stdout).Encode(map[string]string{"event": "restart"})
		}
		return false
	})
	if r.out.Cut = refusalOf(broken); r.out.Cut.Code != "Unavailable" && !errors.Is(broken, io.EOF) {
		return broken
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	foreign := r.fold.short
	if err = r.connect(ctx, line[:len(line)-1]); err != nil {
		return err
	}
	if err = r.regain(ctx); err != nil {
		return err
	}
	if err = r.change(ctx, 4); err != nil {
		return err
	}
	r.out.Portable, err = r.watch(ctx, r.fold.portable, time.Second, r.whole)
	r.fold.short = foreign
	return err
}

// regain renews the lease at a node that came back, or registers everything again where that node has lost it.
func (r *run) regain(ctx context.Context) error {
	renewed, err := r.client.Renew(ctx, &discovery.RenewRequest{LeaseIds: []string{r.lease}})
	if err != nil {
		return err
	}
	if r.out.ReRegistered = len(renewed.ExpiredLeaseIds) > 0; r.out.ReRegistered {
		all := make([]*catalog.Entry, 0, len(r.mine))
		for _, entry := range r.mine {
			all = append(all, entry)
		}
		if r.lease, err = register(ctx, r.client, "", leaseTTL, all...); err != nil {
			return err
		}
	}
	r.renewInBackground(ctx)
	return nil
}

// foreignShort resumes by a short cursor of the process before: it is answered with a snapshot, not with an error.
func (r *run) foreignShort(ctx context.Context) (err error) {
	r.out.ForeignShort, err = r.watch(ctx, r.fold.short, time.Second, r.whole)
	return err
}

func (r *run) leave(ctx context.Context) error {
	gone, err := r.client.Unregister(ctx, &discovery.UnregisterRequest{LeaseId: r.lease})
	if err != nil {
		return err
	}
	r.out.Unregistered, r.out.Renewals = gone.Removed, r.renewed.Load()
	clear(r.mine)
	last, err := r.watch(ctx, r.fold.portable, time.Second, r.whole)
	r.out.Left = last.Held
	r.alive()
	return err
}
