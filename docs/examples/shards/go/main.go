// Command shards owns shards, or calls the owner of a key. router.go follows the owners, and owner.go is a client of
// Attach. To use them, copy them with key.go to your program and change the import of waymark.example.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// shards own NAMESPACE INSTANCE ADDRESS SERVER... answers calls at the address of its instance, which must be registered.
// shards call NAMESPACE KEY SERVER... calls the owner of a key.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	verb, router := os.Args[1], &Router{Namespace: os.Args[2]}
	if verb == "own" {
		servers := dial(os.Args[5:])
		// The owner answers calls while it stops.
		go router.Follow(context.Background(), servers)
		own(ctx, router, os.Args[3], os.Args[4], servers)
		return
	}
	go router.Follow(ctx, dial(os.Args[4:]))
	err := router.Call(ctx, os.Args[3], func(ctx context.Context, route Route) error {
		return call(ctx, router.Namespace, route)
	})
	if err != nil {
		log.Fatal(err)
	}
}

func dial(addresses []string) []grpc.ClientConnInterface {
	var servers []grpc.ClientConnInterface
	for _, address := range addresses {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			log.Fatal(err)
		}
		servers = append(servers, conn)
	}
	return servers
}

// own answers a call with the fence of its shard, with 409 and the owner that it knows, or with 503 for a paused shard.
func own(ctx context.Context, router *Router, instance, address string, servers []grpc.ClientConnInterface) {
	owner := &Owner{Namespace: router.Namespace, Instance: instance}
	handle := func(response http.ResponseWriter, request *http.Request) {
		id, ok := shardOfCall(router.Namespace, request.Header.Get("waymark-shard"))
		if !ok {
			http.Error(response, "send the header waymark-shard", http.StatusBadRequest)
			return
		}
		fence, done, err := owner.Begin(id)
		if errors.Is(err, ErrPaused) {
			http.Error(response, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if err != nil {
			route := router.Shard(id)
			response.WriteHeader(http.StatusConflict)
			state := map[string]any{"id": id, "owner": route.Owner, "epoch": fmt.Sprint(route.Epoch), "status": route.Status}
			_ = json.NewEncoder(response).Encode(state)
			return
		}
		defer done()
		// A real program sends the fence with its effects.
		fmt.Fprintln(response, fence)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(handle)}
	go server.Serve(listener)
	fmt.Println("listening on", listener.Addr())
	if err := owner.Run(ctx, servers); err != nil {
		log.Fatal(err)
	}
	_ = server.Shutdown(context.Background())
}

// shardOfCall reads the value <namespace>;<id>;<epoch>.
func shardOfCall(namespace, metadata string) (uint32, bool) {
	parts := strings.Split(metadata, ";")
	if len(parts) != 3 || parts[0] != namespace {
		return 0, false
	}
	id, err := strconv.ParseUint(parts[1], 10, 32)
	return uint32(id), err == nil
}

func call(ctx context.Context, namespace string, route Route) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+route.Target, nil)
	if err != nil {
		return err
	}
	request.Header.Set("waymark-shard", fmt.Sprintf("%s;%d;%d", namespace, route.ID, route.Epoch))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case response.StatusCode == http.StatusConflict:
		return ErrWrongEpoch
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	fmt.Print(string(body))
	return err
}
