package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	discovery "waymark.example/interop/gen/waymark/discovery/v1"
)

const callTimeout = 20 * time.Second

// round is the outcome of some calls.
type round struct {
	Failed  int            `json:"failed"`
	Reason  string         `json:"reason"`
	Answers map[string]int `json:"answers"` // By the address that answered.
}

// For each line of stdin, which is a number, main makes that many calls to the target, and prints a round.
func main() {
	servers := flag.String("servers", "", "Waymark servers, with commas between them")
	target := flag.String("target", "", "waymark:///namespace/name")
	interval := flag.Duration("bookmark-interval", 0, "how often a Waymark server is to say that nothing is missing")
	flag.Parse()
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	names := &Builder{
		Servers: strings.Split(*servers, ","), Options: []grpc.DialOption{plain}, BookmarkInterval: *interval,
	}
	conn, err := grpc.NewClient(*target, plain, grpc.WithResolvers(names),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
	defer func() { _ = conn.Close() }()
	client := discovery.NewDiscoveryServiceClient(conn)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var count int
		if _, err := fmt.Sscan(lines.Text(), &count); err != nil {
			fmt.Fprintln(os.Stderr, "failed:", err)
			os.Exit(1)
		}
		_ = json.NewEncoder(os.Stdout).Encode(call(client, count))
	}
}

func call(client discovery.DiscoveryServiceClient, count int) round {
	out := round{Answers: map[string]int{}}
	for range count {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		var from peer.Peer
		_, err := client.ServerInfo(ctx, &discovery.ServerInfoRequest{}, grpc.Peer(&from))
		cancel()
		if err != nil {
			out.Failed++
			out.Reason = err.Error()
			continue
		}
		out.Answers[from.Addr.String()]++
	}
	return out
}
