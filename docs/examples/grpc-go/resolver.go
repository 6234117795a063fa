// Command names calls a service by its Waymark name, waymark:///namespace/name. This file is the name resolver for
// grpc-go. To use it, copy the file to your program and change the two imports from waymark.example.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/resolver"
	"google.golang.org/protobuf/types/known/durationpb"

	catalog "waymark.example/interop/gen/waymark/catalog/v1"
	discovery "waymark.example/interop/gen/waymark/discovery/v1"
)

const (
	scheme   = "waymark"
	leastGap = 250 * time.Millisecond
	mostGap  = 10 * time.Second
	// On a stream that is up to date, a server sends a message in each bookmark interval.
	bookmarkInterval = 3 * time.Second
	silentIntervals  = 3
	// A server that lacks changes of the cursor waits up to a minute for them without sending a message.
	catchingUp = 90 * time.Second
	// A frozen server accepts a connection, but never answers on it.
	connectWithin = 5 * time.Second
)

// errSilent ends a watch whose server sends nothing although the connection is open.
var errSilent = errors.New("the Waymark server was silent for too long")

// Builder makes name resolvers for targets waymark:///namespace/name. Servers are addresses (host:port) of Waymark
// nodes or resolvers; Options are for the connections to them, such as their credentials. Give it to channels with
// grpc.WithResolvers: those of one Builder share the connections.
type Builder struct {
	Servers []string
	Options []grpc.DialOption
	// BookmarkInterval is how often a server must confirm that nothing is missing, from 1 s to 10 s; 0 means 3 s. A
	// server that is silent for three intervals is replaced by the next one.
	BookmarkInterval time.Duration

	mu    sync.Mutex
	links map[string]*link // By server.
}

// link is a connection that the watches of several names share.
type link struct {
	conn      *grpc.ClientConn
	userCount int
}

// open returns a link to the server. The caller returns it with leave.
func (b *Builder) open(server string) (*link, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.links[server]
	if one == nil {
		params := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectWithin}
		conn, err := grpc.NewClient(server, append([]grpc.DialOption{grpc.WithConnectParams(params)}, b.Options...)...)
		if err != nil {
			return nil, err
		}
		if b.links == nil {
			b.links = map[string]*link{}
		}
		one = &link{conn: conn}
		b.links[server] = one
	}
	one.userCount++
	return one, nil
}

// leave returns a link. After a broken watch the next watch uses a new connection, because this one may be dead or in
// its own backoff.
func (b *Builder) leave(server string, one *link, isBroken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	one.userCount--
	if b.links[server] == one && (isBroken || one.userCount == 0) {
		delete(b.links, server)
	}
	if one.userCount == 0 {
		_ = one.conn.Close()
	}
}

// Scheme is the part of a target before the colon.
func (*Builder) Scheme() string { return scheme }

// Build starts a watch of the target's name.
func (b *Builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	namespace, name, found := strings.Cut(target.Endpoint(), "/")
	if !found || namespace == "" || name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q is not namespace/name, as in waymark:///svc.market/web", target.Endpoint())
	}
	if len(b.Servers) == 0 {
		return nil, errors.New("the builder has no Waymark server")
	}
	ctx, cancel := context.WithCancel(context.Background())
	interval := b.BookmarkInterval
	if interval == 0 {
		interval = bookmarkInterval
	}
	n := &nameResolver{
		builder: b, cc: cc, cancel: cancel, interval: interval,
		request: &discovery.CatalogWatchRequest{
			Namespace: namespace, Names: []string{name}, BookmarkInterval: durationpb.New(interval),
		},
		held: map[string]*catalog.Entry{},
	}
	n.done.Add(1)
	go n.run(ctx)
	return n, nil
}

// nameResolver folds a watch of one name, and updates the addresses of its channel whenever the fold is complete.
type nameResolver struct {
	builder  *Builder
	cc       resolver.ClientConn
	cancel   context.CancelFunc
	done     sync.WaitGroup
	interval time.Duration
	request  *discovery.CatalogWatchRequest
	held     map[string]*catalog.Entry
	listed   map[string]bool // Keys received since BEGIN. Nil outside a snapshot.
	replaces []string        // Namespaces that the snapshot covers. Empty for all.
	isAhead  bool            // Changes arrived after the cursor. Another server may never receive them.
	told     []string
	isTaken  bool // Since then an entry was removed for a reason that proves its end, not only a loss of the registry.

	mu      sync.Mutex
	heardAt time.Time               // Time of the last message of the open watch, or of its start.
	giveUp  context.CancelCauseFunc // Ends the open watch, so that run uses the next server. Nil without a watch.
}

// ResolveNow is called when an address failed. A responsive server has already sent the newest addresses; a late one
// is replaced immediately. A wait between two servers is not shortened, because it spreads the clients.
func (n *nameResolver) ResolveNow(resolver.ResolveNowOptions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.giveUp != nil && time.Since(n.heardAt) > n.interval*3/2 {
		n.giveUp(errSilent)
	}
}

// listen records that the open watch was opened or delivered a message, and how to end it.
func (n *nameResolver) listen(giveUp context.CancelCauseFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heardAt, n.giveUp = time.Now(), giveUp
}

// Close ends the watch.
func (n *nameResolver) Close() {
	n.cancel()
	n.done.Wait()
}

// run watches on one server after the other. When a server is lost, run keeps the entries: the addresses of the channel
// change only when a server has sent a complete state.
func (n *nameResolver) run(ctx context.Context) {
	defer n.done.Done()
	gap := leastGap
	for at := 0; ctx.Err() == nil; at++ {
		heard, err := n.watch(ctx, n.builder.Servers[at%len(n.builder.Servers)])
		if n.told == nil && err != nil {
			n.cc.ReportError(err) // The channel has no address yet, so its calls fail with this.
		}
		if heard {
			gap = leastGap
		}
		select { // Full jitter, so that not all clients of a lost server come back together.
		case <-ctx.Done():
		case <-time.After(time.Duration(rand.Int64N(int64(gap)))):
		}
		gap = min(2*gap, mostGap)
	}
}

// watch follows the name on one server until the stream ends or the server is silent for too long. It returns whether
// the server sent a message.
func (n *nameResolver) watch(closed context.Context, server string) (heard bool, err error) {
	one, err := n.builder.open(server)
	if err != nil {
		return false, err
	}
	defer func() { n.builder.leave(server, one, closed.Err() == nil) }()
	n.listed = nil // An incomplete snapshot of the previous server is discarded.
	if n.isAhead {
		n.request.Cursor = "" // A snapshot shows which of these changes are true. It is used when it is complete.
	}
	ctx, giveUp := context.WithCancelCause(closed)
	defer giveUp(nil)
	silence := time.AfterFunc(catchingUp, func() { giveUp(errSilent) })
	defer silence.Stop()
	n.listen(giveUp)
	defer n.listen(nil)
	stream, err := discovery.NewDiscoveryServiceClient(one.conn).CatalogWatch(ctx, n.request)
	for err == nil {
		var message *discovery.CatalogWatchResponse
		if message, err = stream.Recv(); err == nil {
			heard = true
			n.apply(message)
			n.listen(giveUp)
			silence.Reset(silentIntervals * n.interval)
		}
	}
	if errors.Is(context.Cause(ctx), errSilent) {
		err = errSilent
	}
	return heard, err
}

// apply folds one message by the rules of docs/guides/watch.md.
func (n *nameResolver) apply(message *discovery.CatalogWatchResponse) {
	if message.Snapshot == catalog.Snapshot_SNAPSHOT_BEGIN {
		n.listed, n.replaces = map[string]bool{}, message.Replaces
	}
	n.isAhead = n.isAhead || len(message.Deltas) > 0
	for _, delta := range message.Deltas {
		if entry := delta.GetEntry(); entry != nil {
			text := keyText(entry.Key)
			n.held[text] = entry
			if n.listed != nil {
				n.listed[text] = true
			}
		} else if key := delta.GetRemoved(); key != nil {
			delete(n.held, keyText(key))
			n.isTaken = n.isTaken || delta.Cause != catalog.DiscoveryDelta_CAUSE_EXPIRED
		}
	}
	if message.Snapshot == catalog.Snapshot_SNAPSHOT_END {
		for text, entry := range n.held {
			isCovered := len(n.replaces) == 0 || slices.Contains(n.replaces, entry.Key.Namespace)
			if isCovered && !n.listed[text] {
				delete(n.held, text)
				n.isTaken = n.isTaken || len(n.replaces) > 0 // A policy hides it.
			}
		}
		n.listed = nil
	}
	if n.listed != nil {
		return // Inside a snapshot the fold is a mixture of old and new.
	}
	if message.PortableCursor != "" {
		n.request.Cursor, n.isAhead = message.PortableCursor, false
	}
	n.tell()
}

// tell updates the channel with the addresses of the best health level, if they have changed.
func (n *nameResolver) tell() {
	best, addresses := len(tiers), []string{}
	for _, entry := range n.held {
		tier, isFit := tiers[entry.Health]
		own := grpcPorts(entry)
		if !isFit || tier > best || len(own) == 0 {
			continue
		}
		if tier < best {
			best, addresses = tier, nil
		}
		addresses = append(addresses, own...)
	}
	// When all entries expired, or a snapshot lists none of them, the registry has probably lost its data, and the
	// instances are still there: the last addresses are better than none.
	if len(n.held) == 0 && !n.isTaken && len(n.told) > 0 {
		return
	}
	n.isTaken = false
	slices.Sort(addresses)
	if n.told != nil && slices.Equal(addresses, n.told) {
		return
	}
	n.told = addresses
	state := resolver.State{}
	for _, address := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
	}
	if len(addresses) > 0 {
		_ = n.cc.UpdateState(state) // An error means that the balancer cannot use it; calls say so.
		return
	}
	// An endpoint without an address ends the connections, and its balancer fails calls with the error.
	state.Endpoints = []resolver.Endpoint{{}}
	_ = n.cc.UpdateState(state)
	n.cc.ReportError(fmt.Errorf("no entry of %s/%s can receive traffic", n.request.Namespace, n.request.Names[0]))
}

// canCarryGRPC lists the port protocols that are used for an entry without a gRPC port.
var canCarryGRPC = map[string]bool{"": true, "tcp": true, "tls": true, "h2": true, "h2c": true, "http2": true}

// grpcPorts returns the addresses of an entry that speak gRPC: ports named grpc or with the protocol grpc or grpcs, or,
// without such ports, those whose protocol can carry gRPC. Only ports of the lowest priority count.
func grpcPorts(entry *catalog.Entry) []string {
	var said, silent []*catalog.Target
	for _, target := range entry.Targets {
		if target.Name == "grpc" || target.Protocol == "grpc" || target.Protocol == "grpcs" {
			said = append(said, target)
		} else if canCarryGRPC[target.Protocol] {
			silent = append(silent, target)
		}
	}
	if len(said) == 0 {
		said = silent
	}
	slices.SortStableFunc(said, func(a, b *catalog.Target) int { return cmp.Compare(a.Priority, b.Priority) })
	var preferred []string
	for _, target := range said {
		if target.Priority > said[0].Priority {
			break
		}
		preferred = append(preferred, net.JoinHostPort(target.Host, strconv.Itoa(int(target.Port))))
	}
	return preferred
}

// tiers has the order of health levels, the best first. MAINTENANCE is in none.
var tiers = map[catalog.HealthStatus]int{
	catalog.HealthStatus_HEALTH_STATUS_UNSPECIFIED: 0,
	catalog.HealthStatus_HEALTH_STATUS_HEALTHY:     0,
	catalog.HealthStatus_HEALTH_STATUS_DEGRADED:    1,
	catalog.HealthStatus_HEALTH_STATUS_CRITICAL:    2,
	catalog.HealthStatus_HEALTH_STATUS_ORPHANED:    2,
}

func keyText(key *catalog.EntryKey) string {
	return fmt.Sprintf("%s\x00%s\x00%d\x00%s\x00%s", key.Namespace, key.Name, key.Kind, key.InstanceId, key.ClusterId)
}
