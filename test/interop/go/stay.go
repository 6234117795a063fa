package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	catalog "waymark.example/interop/gen/waymark/catalog/v1"
	discovery "waymark.example/interop/gen/waymark/discovery/v1"
)

const (
	stayTTL     = 3 * time.Second
	stayTimeout = 2 * time.Second
	stayPause   = 200 * time.Millisecond
	stayEntries = 5
)

// stayRegistered keeps the entries registered until ctx ends. When their lease has ended on a node, it registers them on this
// node again, or on the next one if this one is draining or does not answer.
func stayRegistered(ctx context.Context, nodes []discovery.DiscoveryServiceClient, entries []*catalog.Entry, seen func(event string, node int)) error {
	for at := 0; ctx.Err() == nil; {
		callCtx, cancel := context.WithTimeout(ctx, stayTimeout)
		request := &discovery.RegisterRequest{Entries: entries, Ttl: durationpb.New(stayTTL)}
		registered, err := nodes[at].Register(callCtx, request)
		cancel()
		if isNodeLost(err) {
			at = (at + 1) % len(nodes)
			time.Sleep(stayPause)
			continue
		}
		if err != nil {
			return err
		}
		seen("registered", at)
		// However the renewals end, the next registration finds the node that accepts the entries.
		_ = keepAlive(ctx, nodes[at], registered.LeaseId, func() { seen("renewed", at) })
	}
	return nil
}

// isNodeLost reports whether another node can answer: this one is draining, is not ready, or does not answer.
func isNodeLost(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// follow folds the changes of a namespace until ctx ends. When a watch ends, it continues on the next node from the portable
// cursor, so it receives each change once.
func follow(ctx context.Context, nodes []discovery.DiscoveryServiceClient, namespace string, f *fold, seen func(event string, node int)) error {
	for at := 0; ctx.Err() == nil; at = (at + 1) % len(nodes) {
		err := followOn(ctx, nodes[at], namespace, f, func() { seen("followed", at) })
		f.broken()
		if ctx.Err() == nil && !isNodeLost(err) {
			return err
		}
		time.Sleep(stayPause)
	}
	return nil
}

func followOn(ctx context.Context, node discovery.DiscoveryServiceClient, namespace string, f *fold, whole func()) error {
	request := &discovery.CatalogWatchRequest{
		Namespace:        namespace,
		Cursor:           f.portable,
		WithDigest:       true,
		BookmarkInterval: durationpb.New(time.Second),
	}
	stream, err := node.CatalogWatch(ctx, request)
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := f.apply(message); err != nil {
			return err
		}
		if message.Bookmark {
			whole()
		}
	}
}

// stay registers entries on these nodes and follows their namespace until SIGTERM. It prints an event for each registration,
// renewal and bookmark, with the number of the node, and last the tally of its watch.
func stay(addresses []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	nodes := make([]discovery.DiscoveryServiceClient, len(addresses))
	for i, address := range addresses {
		client, conn, err := dial(address)
		if err != nil {
			return err
		}
		defer conn.Close()
		nodes[i] = client
	}
	entries := make([]*catalog.Entry, stayEntries)
	for i := range entries {
		entries[i] = instance(namespace, "web", fmt.Sprintf("web-%d", i), "")
	}
	events := make(chan map[string]any)
	seen := func(event string, node int) { events <- map[string]any{"event": event, "node": node} }
	f, ended := newFold(), make(chan error)
	go func() { ended <- stayRegistered(ctx, nodes, entries, seen) }()
	go func() { ended <- follow(ctx, nodes, namespace, f, seen) }()
	out := json.NewEncoder(os.Stdout)
	var failed error
	for left := 2; left > 0; {
		select {
		case event := <-events:
			_ = out.Encode(event)
		case err := <-ended:
			left--
			failed = errors.Join(failed, err)
			stop()
		}
	}
	_ = out.Encode(map[string]any{"event": "done", "told": f.seen, "held": len(f.held)})
	return failed
}
