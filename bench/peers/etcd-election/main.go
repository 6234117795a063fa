// Command etcd-election is one candidate of etcd's own election recipe (client/v3/concurrency), for bench/leadership.ts. It campaigns, prints when
// Campaign returned, and leads until its session ends or it is asked to stop.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

var (
	endpoints = flag.String("endpoints", "", "host:port of the members of etcd, separated by commas")
	prefix    = flag.String("election", "", "key prefix of the election")
	name      = flag.String("name", "", "value of the candidate")
	ttl       = flag.Int("ttl", 3, "TTL of the session in seconds")
)

// say prints an event with the wall time in milliseconds.
func say(what string) {
	at := float64(time.Now().UnixMicro()) / 1000
	fmt.Printf("{\"what\":%q,\"atMs\":%.3f}\n", what, at)
}

// lead campaigns with one session, and returns when the session has ended, or after it has resigned.
func lead(ctx context.Context, client *clientv3.Client) error {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(*ttl))
	if err != nil {
		return err
	}
	defer session.Close()
	// A candidate whose session has ended has no key any more, and must campaign with a new session.
	campaign, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-session.Done():
			cancel()
		case <-campaign.Done():
		}
	}()
	election := concurrency.NewElection(session, *prefix)
	say("stands")
	if err := election.Campaign(campaign, *name); err != nil {
		return err
	}
	say("elected")
	select {
	case <-session.Done():
		say("lost")
		return nil
	case <-ctx.Done():
		return election.Resign(context.Background())
	}
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(*endpoints, ","), Logger: zap.NewNop()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for ctx.Err() == nil {
		if err := lead(ctx, client); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, err)
			time.Sleep(50 * time.Millisecond)
		}
	}
}
