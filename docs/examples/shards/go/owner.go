package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	control "waymark.example/interop/gen/waymark/control/v1"
)

const (
	// A server must answer the first message within this time, and each later one within three heartbeats.
	patience         = 5 * time.Second
	silentHeartbeats = 3
	// An owner that stops gives up its shards within this time, and then ends the others. It must stop before it is killed.
	leaveTime = 30 * time.Second
)

// ErrPaused is the error of new work for a shard that an operator has paused.
var ErrPaused = errors.New("it accepts no new work until an operator resumes it")

var errSilent = errors.New("the Waymark server was silent for too long")

// Owner owns shards of a namespace. It is a client of Attach that does its work within calls: Begin starts a piece of
// work for a shard, and a shard moves to another owner when its work has ended.
type Owner struct {
	Namespace, Instance string
	mu                  sync.Mutex
	terms               map[uint32]*term // The last term of each shard.
	until               time.Time        // The end of the validity that the stream has granted.
	ended               chan *term
}

// term is a time in which the program owns a shard. Its work carries the fence.
type term struct {
	id                         uint32
	fence                      *control.Fence
	isPaused, isOver, hasEnded bool // isOver: no new work begins. hasEnded: the last work has ended, too.
	work                       sync.WaitGroup
}

// Begin starts a piece of work for a shard. It returns the value of the metadata waymark-fence, which all effects of the
// work must carry, and a function that must be called when the work has ended. It returns ErrWrongEpoch if the program
// does not own the shard or gives it up, and ErrPaused if the shard is paused.
func (o *Owner) Begin(id uint32) (fence string, done func(), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.terms[id]
	if t == nil || t.isOver || !time.Now().Before(o.until) {
		return "", nil, ErrWrongEpoch
	}
	if t.isPaused {
		return "", nil, fmt.Errorf("shard %s/%d is paused: %w", o.Namespace, id, ErrPaused)
	}
	t.work.Add(1)
	f := t.fence
	fence = fmt.Sprintf("shard/%s/%d;%d.%d.%d", o.Namespace, id, f.FailoverVersion, f.StoreEpoch, f.Number)
	return fence, t.work.Done, nil
}

// Run attaches the owner to one server after the other, until ctx is done. It then gives up the shards, one after the other,
// while their work ends and other owners follow, and detaches.
func (o *Owner) Run(ctx context.Context, servers []grpc.ClientConnInterface) error {
	o.terms = map[uint32]*term{}
	o.ended = make(chan *term, 100)
	for at := 0; ; at++ {
		a := &attachment{Owner: o, began: time.Now(), fences: map[uint32]*control.Fence{}}
		err := a.run(ctx, control.NewShardServiceClient(servers[at%len(servers)]))
		a.endAll()
		switch status.Code(err) {
		case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
			return err
		}
		if ctx.Err() != nil {
			// If the stream broke before the owner could detach, others follow when the validity is over.
			o.wait()
			return nil
		}
		sleep(ctx, retryDelay)
	}
}

// attachment is one stream, and the terms that it grants.
type attachment struct {
	*Owner
	// began is the zero of the clock whose readings the messages contain. It has a monotonic reading.
	began  time.Time
	fences map[uint32]*control.Fence // The last fence of each shard that the server has sent.
}

func (a *attachment) run(ctx context.Context, client control.ShardServiceClient) error {
	// The stream outlives ctx, so that the program can detach.
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stream, err := client.Attach(streamCtx)
	if err != nil {
		return err
	}
	answers, failed := receive(stream)
	heartbeat, silence, expiry := time.NewTimer(0), time.NewTimer(patience), time.NewTimer(patience)
	stopped, isLeaving, isLate := ctx.Done(), false, false
	var late <-chan time.Time
	for {
		message := &control.ShardServiceAttachRequest{}
		select {
		case <-heartbeat.C:
		case answer := <-answers:
			interval := answer.HeartbeatInterval.AsDuration()
			heartbeat.Reset(interval)
			silence.Reset(silentHeartbeats * interval)
			a.answered(answer, message)
			expiry.Reset(time.Until(a.until))
			if len(message.Prepared)+len(message.Dropped) == 0 {
				continue
			}
		case t := <-a.ended:
			// When it is late, the owner detaches instead.
			if a.isExpected(t) && !isLate {
				message.Dropped = []uint32{t.id}
			}
		case <-expiry.C:
			a.endAll()
			continue
		case <-stopped:
			stopped, isLeaving, late = nil, true, time.After(leaveTime)
		case <-late:
			isLate = true
			a.endAll()
		case err := <-failed:
			return err
		case <-silence.C:
			return errSilent
		}
		message.Namespace, message.Instance = a.Namespace, a.Instance
		message.Leaving, message.Detach = isLeaving, isLeaving && a.hasEnded()
		message.SentMs = uint64(time.Since(a.began).Milliseconds())
		// If sending fails, the stream ends with the error.
		_ = stream.Send(message)
	}
}

// receive returns the answers of the stream, and the error with which it ends.
func receive(stream control.ShardService_AttachClient) (<-chan *control.ShardServiceAttachResponse, <-chan error) {
	answers := make(chan *control.ShardServiceAttachResponse)
	failed := make(chan error, 1)
	go func() {
		for {
			answer, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case answers <- answer:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	return answers, failed
}

// answered applies an answer. The next message reports shards without work immediately.
func (a *attachment) answered(answer *control.ShardServiceAttachResponse, message *control.ShardServiceAttachRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.until = a.began.Add(time.Duration(answer.SentMs)*time.Millisecond + answer.ValidFor.AsDuration())
	for _, shard := range answer.Shards {
		a.fences[shard.Id] = shard.Fence
		t := a.terms[shard.Id]
		isKnown := t != nil && compareFences(shard.Fence, t.fence) <= 0
		switch shard.State {
		case control.OwnedShardState_OWNED_SHARD_STATE_PREPARING:
			message.Prepared = append(message.Prepared, shard.Id)
		case control.OwnedShardState_OWNED_SHARD_STATE_OWNED, control.OwnedShardState_OWNED_SHARD_STATE_PAUSED:
			if !isKnown {
				if t != nil {
					a.end(t)
				}
				t = &term{id: shard.Id, fence: shard.Fence}
				a.terms[shard.Id] = t
			}
			t.isPaused = shard.State == control.OwnedShardState_OWNED_SHARD_STATE_PAUSED
			if t.hasEnded {
				message.Dropped = append(message.Dropped, shard.Id)
			}
		case control.OwnedShardState_OWNED_SHARD_STATE_DRAINING, control.OwnedShardState_OWNED_SHARD_STATE_LOST:
			if isKnown && !t.hasEnded {
				a.end(t)
			} else {
				message.Dropped = append(message.Dropped, shard.Id)
			}
		case control.OwnedShardState_OWNED_SHARD_STATE_RELEASED:
			if t != nil {
				a.end(t)
			}
		}
	}
}

// end lets the work of a term finish. The mutex must be held.
func (a *attachment) end(t *term) {
	if t.isOver {
		return
	}
	t.isOver = true
	go func() {
		t.work.Wait()
		a.mu.Lock()
		t.hasEnded = true
		a.mu.Unlock()
		a.ended <- t
	}()
}

// endAll ends all terms, because their validity is over or a new stream does not extend them.
func (a *attachment) endAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.terms {
		a.end(t)
	}
}

// hasEnded returns whether the work of all terms has ended, and no term has begun since.
func (o *Owner) hasEnded() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.terms {
		if !t.hasEnded {
			return false
		}
	}
	return true
}

// wait waits for the work of all terms, which must be over.
func (o *Owner) wait() {
	for _, t := range o.terms {
		t.work.Wait()
	}
}

// isExpected returns whether the server waits for the end of this term.
func (a *attachment) isExpected(t *term) bool {
	fence := a.fences[t.id]
	return fence != nil && compareFences(fence, t.fence) == 0
}

func compareFences(a, b *control.Fence) int {
	return cmp.Or(
		cmp.Compare(a.GetFailoverVersion(), b.GetFailoverVersion()),
		cmp.Compare(a.GetStoreEpoch(), b.GetStoreEpoch()),
		cmp.Compare(a.GetNumber(), b.GetNumber()),
	)
}
