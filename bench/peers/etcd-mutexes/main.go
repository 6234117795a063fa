// Command etcd-mutexes is one owner of shards by the mutexes of etcd's own client (client/v3/concurrency), for bench/shards.ts. Each shard has a mutex,
// and all mutexes of the process belong to one session. The process locks the shards that are its own. It also waits with Lock for the shards for which
// it is the standby, so that it owns them when the session of their first owner has ended. It prints when Lock has returned.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

var (
	endpoints = flag.String("endpoints", "", "host:port of the members of etcd, separated by commas")
	prefix    = flag.String("prefix", "", "key prefix of the mutexes")
	index     = flag.Int("index", 0, "number of this process")
	processes = flag.Int("processes", 2, "number of all processes")
	shards    = flag.Int("shards", 0, "number of shards")
	ttl       = flag.Int("ttl", 3, "TTL of the session in seconds")
)

// say prints an event with the wall time in milliseconds. Events of several goroutines do not mix, because each is one write.
func say(what string, shard int) {
	at := float64(time.Now().UnixMicro()) / 1000
	fmt.Printf("{\"what\":%q,\"id\":%d,\"atMs\":%.3f}\n", what, shard, at)
}

// firstOf and standbyOf are the processes of a shard. The shards of a process that ends go to all other processes in equal parts.
func firstOf(shard int) int {
	return shard % *processes
}

func standbyOf(shard int) int {
	return (firstOf(shard) + 1 + (shard / *processes)%(*processes-1)) % *processes
}

// standby is the right of this process to the shards of others. Its channel is closed when their first owners are back.
type standby struct {
	mutex sync.Mutex
	back  chan struct{}
}

func (s *standby) channel() chan struct{} {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.back
}

func (s *standby) giveBack() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	close(s.back)
	s.back = make(chan struct{})
}

// hold locks a shard again and again. The shard is unlocked when the channel is closed; nil means never.
func hold(ctx context.Context, session *concurrency.Session, shard int, back func() chan struct{}) {
	mutex := concurrency.NewMutex(session, fmt.Sprintf("%s/%d", *prefix, shard))
	for {
		if err := mutex.Lock(ctx); err != nil {
			log.Fatalf("shard %d: %v", shard, err)
		}
		say("owns", shard)
		select {
		case <-back():
		case <-ctx.Done():
			return
		}
		say("lost", shard)
		if err := mutex.Unlock(ctx); err != nil {
			log.Fatalf("shard %d: %v", shard, err)
		}
	}
}

func main() {
	flag.Parse()
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(*endpoints, ","), Logger: zap.NewNop()})
	if err != nil {
		log.Fatal(err)
	}
	session, err := concurrency.NewSession(client, concurrency.WithTTL(*ttl))
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		<-session.Done()
		log.Fatal("the session has ended")
	}()
	ctx := context.Background()
	other := &standby{back: make(chan struct{})}
	own := func() chan struct{} { return nil }
	for shard := range *shards {
		if firstOf(shard) == *index {
			go hold(ctx, session, shard, own)
		}
	}
	say("ready", 0)
	// The commands of the benchmark: "stand" when all shards have their first owners, and "back" when an ended process runs again.
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case "stand":
			for shard := range *shards {
				if standbyOf(shard) == *index {
					go hold(ctx, session, shard, other.channel)
				}
			}
		case "back":
			other.giveBack()
		}
	}
}
