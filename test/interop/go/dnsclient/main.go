// Looks a service up with Go's own resolver: its addresses, its SRV records, and a name below it that is not there.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

func main() {
	server, name := os.Args[1], os.Args[2]+"."
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, server)
	}}
	ctx := context.Background()
	addresses, err := resolver.LookupHost(ctx, name)
	fmt.Println(len(addresses), "addresses", err)
	_, records, err := resolver.LookupSRV(ctx, "svc", "tcp", name)
	for _, record := range records {
		fmt.Println(record.Priority, record.Weight, record.Port, record.Target)
	}
	fmt.Println("srv", err)
	_, err = resolver.LookupHost(ctx, "nope."+name)
	var failure *net.DNSError
	fmt.Println("absent", errors.As(err, &failure) && failure.IsNotFound)
}
