package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// leader NAME URL SERVER... cleans orders at the URL of orders.ts while it leads the scope.
func main() {
	name, url, addresses := os.Args[1], os.Args[2], os.Args[3:]
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	servers := make([]grpc.ClientConnInterface, 0, len(addresses))
	for _, address := range addresses {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			log.Fatal(err)
		}
		servers = append(servers, conn)
	}
	err := Lead(ctx, servers, "custom/orders/cleaner", name, func(ctx context.Context, term Term) error {
		fmt.Println("leads", term.Fence)
		for ctx.Err() == nil {
			if status := clean(ctx, url, term); status == http.StatusConflict {
				fmt.Println("rejected", term.Fence)
			}
			time.Sleep(50 * time.Millisecond)
		}
		return ctx.Err()
	})
	if ctx.Err() == nil {
		log.Fatal(err)
	}
}

// clean makes one write, with the fence of the term. It returns 0 if there was no answer.
func clean(ctx context.Context, url string, term Term) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("waymark-fence", term.Fence)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}
