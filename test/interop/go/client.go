package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	catalog "waymark.example/interop/gen/waymark/catalog/v1"
	discovery "waymark.example/interop/gen/waymark/discovery/v1"
)

const callTimeout = 30 * time.Second

// dial makes a client of the node at address (host:port).
func dial(address string) (discovery.DiscoveryServiceClient, *grpc.ClientConn, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return discovery.NewDiscoveryServiceClient(conn), conn, nil
}

// instance is one endpoint of a service.
func instance(namespace, name, id, note string) *catalog.Entry {
	return &catalog.Entry{
		Key: &catalog.EntryKey{
			Kind:       catalog.EntryKind_ENTRY_KIND_SERVICE,
			Namespace:  namespace,
			Name:       name,
			InstanceId: id,
		},
		Targets:  []*catalog.Target{{Host: "10.1.0.1", Port: 8080, Protocol: "grpc"}},
		Tags:     []string{"interop"},
		Metadata: map[string]string{"note": note},
	}
}

// register puts the entries under a new lease, or under leaseID when that is not empty.
func register(ctx context.Context, client discovery.DiscoveryServiceClient, leaseID string, ttl time.Duration, entries ...*catalog.Entry) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request := &discovery.RegisterRequest{Entries: entries, LeaseId: leaseID}
	if leaseID == "" {
		request.Ttl = durationpb.New(ttl)
	}
	response, err := client.Register(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return "", err
	}
	return response.LeaseId, nil
}

// keepAlive renews the lease on one stream until ctx ends. It returns errExpired when the node does not hold the lease.
func keepAlive(ctx context.Context, client discovery.DiscoveryServiceClient, leaseID string, renewed func()) error {
	stream, err := client.KeepAlive(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for {
		if err := stream.Send(&discovery.KeepAliveRequest{LeaseIds: []string{leaseID}}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		response, err := stream.Recv() // The status of a stream that broke comes with Recv.
		if err != nil {
			return err
		}
		if len(response.ExpiredLeaseIds) > 0 {
			return errExpired
		}
		renewed()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(response.Ttl.AsDuration()/3, time.Second/3)): // No ttl: the lease is static.
		}
	}
}

var errExpired = errors.New("the node does not hold the lease any more: register again")

// query reads all pages of a namespace and returns the entries in the order they came.
func query(ctx context.Context, client discovery.DiscoveryServiceClient, namespace string, limit int32) ([]*catalog.Entry, int, error) {
	var items []*catalog.Entry
	request := &discovery.CatalogQueryRequest{Namespace: namespace, Limit: limit}
	for pages := 1; ; pages++ {
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		page, err := client.CatalogQuery(callCtx, request, grpc.WaitForReady(true))
		cancel()
		if err != nil {
			return nil, 0, err
		}
		items = append(items, page.Items...)
		if page.NextPageToken == "" {
			return items, pages, nil
		}
		request.PageToken = page.NextPageToken
	}
}

// refusal is what a failed call says; clients match Reason, never the text.
type refusal struct {
	Code    string   `json:"code"`
	Reason  string   `json:"reason"`
	Fields  []string `json:"fields"`
	RetryMs int64    `json:"retry_ms"`
}

func refusalOf(err error) refusal {
	said := status.Convert(err)
	out := refusal{Code: said.Code().String(), Fields: []string{}, RetryMs: -1}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			out.Reason = detail.Reason
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				out.Fields = append(out.Fields, violation.Field)
			}
		case *errdetails.RetryInfo:
			out.RetryMs = detail.RetryDelay.AsDuration().Milliseconds()
		}
	}
	return out
}

// wanted fails with what was found when a refusal is not the one that was wanted.
func wanted(err error, code, reason string) (refusal, error) {
	said := refusalOf(err)
	if err == nil || said.Code != code || said.Reason != reason {
		return said, fmt.Errorf("wanted %s %s, got %+v (%w)", code, reason, said, err)
	}
	return said, nil
}
