// Command leader cleans orders while it leads custom/orders/cleaner. This file is a client of Campaign. To use it, copy
// Lead to your program and change the import of waymark.example.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	control "waymark.example/interop/gen/waymark/control/v1"
)

const (
	retryDelay = 200 * time.Millisecond
	// A server must answer the first message within this time, and each later one within three heartbeats.
	patience         = 5 * time.Second
	silentHeartbeats = 3
)

// errSilent ends a campaign whose server sends nothing although the connection is open.
var errSilent = errors.New("the Waymark server was silent for too long")

// Term is a time in which this program leads a scope.
type Term struct {
	Number uint64
	// Fence is the value of the metadata waymark-fence, which a leader sends with its writes.
	Fence string
}

// Work runs while the program leads. It must return when its context is done, and then runs again in the next term.
type Work func(context.Context, Term) error

// Lead campaigns for a scope, one server after the other, until work returns in a valid term or ctx is done.
func Lead(ctx context.Context, servers []grpc.ClientConnInterface, scope, holder string, work Work) error {
	for at := 0; ; at++ {
		c := &campaign{scope: scope, holder: holder, work: work, began: time.Now()}
		err := c.run(ctx, control.NewLeadershipServiceClient(servers[at%len(servers)]))
		if c.isDone {
			return c.result
		}
		switch status.Code(err) {
		case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryDelay):
		}
	}
}

// campaign is one stream, and the term that it grants.
type campaign struct {
	scope, holder string
	work          Work
	// began is the zero of the clock whose readings the messages contain. It has a monotonic reading.
	began  time.Time
	end    context.CancelFunc // Ends the term. Nil before the term.
	ended  chan error         // Receives the result of the work.
	until  *time.Timer        // Fires at the end of the term.
	isLost bool
	// isDone is whether the work has returned in a valid term. The result is the result of the work.
	isDone bool
	result error
}

func (c *campaign) run(ctx context.Context, client control.LeadershipServiceClient) error {
	// The stream outlives ctx, so that the program can resign.
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stream, err := client.Campaign(streamCtx)
	if err != nil {
		return err
	}
	answers, failed := receive(stream)
	c.ended = make(chan error, 1)
	c.until = time.NewTimer(patience)
	heartbeat := time.NewTimer(0)
	silence := time.NewTimer(patience)
	stopped := ctx.Done()
	for {
		select {
		case <-heartbeat.C:
			c.send(stream, false)
		case answer := <-answers:
			interval := answer.HeartbeatInterval.AsDuration()
			heartbeat.Reset(interval)
			silence.Reset(silentHeartbeats * interval)
			c.answered(ctx, answer)
		case <-c.until.C:
			c.lose()
		case <-stopped:
			if c.end == nil {
				return ctx.Err()
			}
			stopped = nil
		case c.result = <-c.ended:
			// The node ends the stream, and the scope is free.
			c.isDone = !c.isLost
			c.ended = nil
			c.send(stream, true)
		case err := <-failed:
			c.finish()
			return err
		case <-silence.C:
			c.finish()
			return errSilent
		}
	}
}

// receive returns the answers of the stream, and the error with which it ends.
func receive(stream control.LeadershipService_CampaignClient) (<-chan *control.LeadershipServiceCampaignResponse, <-chan error) {
	answers := make(chan *control.LeadershipServiceCampaignResponse)
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

// send does not return an error, because the stream then ends with it.
func (c *campaign) send(stream control.LeadershipService_CampaignClient, resign bool) {
	sent := uint64(time.Since(c.began).Milliseconds())
	_ = stream.Send(&control.LeadershipServiceCampaignRequest{Scope: c.scope, HolderId: c.holder, Resign: resign, SentMs: sent})
}

func (c *campaign) answered(ctx context.Context, answer *control.LeadershipServiceCampaignResponse) {
	if answer.State != control.CampaignState_CAMPAIGN_STATE_LEADER {
		c.lose()
		return
	}
	left := time.Until(c.began.Add(time.Duration(answer.SentMs)*time.Millisecond + answer.ValidFor.AsDuration()))
	if left <= 0 || c.isLost {
		return
	}
	c.until.Reset(left)
	if c.end != nil {
		return
	}
	termCtx, end := context.WithCancel(ctx)
	c.end = end
	fence := answer.Fence
	text := fmt.Sprintf("%s;%d.%d.%d", c.scope, fence.FailoverVersion, fence.StoreEpoch, fence.Number)
	go func() { c.ended <- c.work(termCtx, Term{Number: answer.Term, Fence: text}) }()
}

// lose ends the term. The campaign continues until the work has returned.
func (c *campaign) lose() {
	if c.end != nil {
		c.isLost = true
		c.end()
	}
}

// finish ends the term, because a new stream cannot extend it, and waits for the work.
func (c *campaign) finish() {
	if c.end != nil && c.ended != nil {
		c.end()
		<-c.ended
	}
}
