package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	control "waymark.example/interop/gen/waymark/control/v1"
)

const (
	retryDelay = 200 * time.Millisecond
	// Servers send a message every 10 s.
	silentWatch = 25 * time.Second
	maxRetries  = 2
	maxWait     = 10 * time.Second
)

// ErrWrongEpoch is the error of a call that the called program rejects because it does not own the shard.
var ErrWrongEpoch = errors.New("the called program does not own the shard")

// Route is where calls for a key go. Owner and Target are empty while the shard has no owner.
type Route struct {
	ID            uint32
	Owner, Target string
	Epoch         uint64
	Status        control.ShardStatus
}

// Router finds the owners of the shards of a namespace.
type Router struct {
	Namespace string
	mu        sync.Mutex
	count     uint64 // 0 before the shards are known.
	epoch     uint64
	shards    map[uint32]*control.Shard
	targets   map[string]string // By owner.
	parts     []*control.ShardServiceWatchResponse
}

// Follow keeps the routes up to date, from one server after the other, until ctx is done.
func (r *Router) Follow(ctx context.Context, servers []grpc.ClientConnInterface) {
	for at := 0; ctx.Err() == nil; at++ {
		r.watch(ctx, control.NewShardServiceClient(servers[at%len(servers)]))
		r.parts = nil
		sleep(ctx, retryDelay)
	}
}

// watch returns when the stream has ended or its server is silent.
func (r *Router) watch(ctx context.Context, client control.ShardServiceClient) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(silentWatch, cancel)
	defer silence.Stop()
	stream, err := client.Watch(ctx, &control.ShardServiceWatchRequest{Namespace: r.Namespace, AfterEpoch: r.epoch})
	for err == nil {
		var message *control.ShardServiceWatchResponse
		if message, err = stream.Recv(); err == nil {
			silence.Reset(silentWatch)
			r.received(message)
		}
	}
}

// received applies a snapshot or a change when its last message, which contains the set, has arrived.
func (r *Router) received(message *control.ShardServiceWatchResponse) {
	if message.Kind == control.ShardEventKind_SHARD_EVENT_KIND_HEARTBEAT {
		return
	}
	r.parts = append(r.parts, message)
	if message.Set == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parts[0].Kind == control.ShardEventKind_SHARD_EVENT_KIND_SNAPSHOT {
		r.shards = map[uint32]*control.Shard{}
		r.targets = map[string]string{}
	}
	for _, part := range r.parts {
		for _, shard := range part.Shards {
			r.shards[shard.Id] = shard
		}
		for _, owner := range part.Owners {
			r.targets[owner.Instance] = owner.Target
		}
	}
	// A change has the settings only if they may have changed.
	if settings := message.Set.Settings; settings != nil {
		r.count = uint64(settings.Count)
	}
	r.epoch, r.parts = message.Epoch, nil
}

// Shard returns the route of a shard.
func (r *Router) Shard(id uint32) Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	shard := r.shards[id]
	return Route{id, shard.GetOwner(), r.targets[shard.GetOwner()], shard.GetEpoch(), shard.GetStatus()}
}

// Call calls the owner of a key. It waits while the shard has no owner that stays. It repeats a call that fails with
// ErrWrongEpoch when there is a newer route, or after a second, because the owner may not know yet that it owns the shard.
func (r *Router) Call(ctx context.Context, key string, call func(context.Context, Route) error) error {
	var id uint32
	var epoch uint64
	isKnown := r.wait(ctx, maxWait, func() bool {
		id = uint32(ShardOf(r.Namespace, r.count, []byte(key)))
		return r.count > 0
	})
	if !isKnown {
		return fmt.Errorf("the shards of %s are not known", r.Namespace)
	}
	for try, limit := 0, maxWait; ; try, limit = try+1, time.Second {
		r.wait(ctx, limit, func() bool {
			shard := r.shards[id]
			return shard.GetEpoch() > epoch && shard.Owner != "" && shard.Status != control.ShardStatus_SHARD_STATUS_DRAINING
		})
		route := r.Shard(id)
		if route.Owner == "" {
			return fmt.Errorf("shard %s/%d has no owner", r.Namespace, id)
		}
		err := call(ctx, route)
		if !errors.Is(err, ErrWrongEpoch) || try == maxRetries || ctx.Err() != nil {
			return err
		}
		epoch = route.Epoch
	}
}

// wait returns whether the condition, which reads the routes, holds within the limit.
func (r *Router) wait(ctx context.Context, limit time.Duration, condition func() bool) bool {
	for end := time.Now().Add(limit); ; sleep(ctx, 20*time.Millisecond) {
		r.mu.Lock()
		holds := condition()
		r.mu.Unlock()
		if holds || time.Now().After(end) || ctx.Err() != nil {
			return holds
		}
	}
}

func sleep(ctx context.Context, delay time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(delay):
	}
}
