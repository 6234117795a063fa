// Serves the SPIFFE Workload API on Unix sockets, as SPIRE's agent does: `spire SOCKET=ID[=LIFE]...`.
// New certificates are made at half of their life, which is an hour by default, and at SIGHUP.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// agent gives one identity to every caller of its socket.
type agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	id    string
	life  time.Duration
	root  *x509.Certificate
	key   *ecdsa.PrivateKey
	turns *turns
}

// turns lets all streams wait for the next signal.
type turns struct {
	mutex sync.Mutex
	next  chan struct{}
}

func (t *turns) wait() <-chan struct{} {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.next
}

func (t *turns) turn() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	close(t.next)
	t.next = make(chan struct{})
}

func (a *agent) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	// SPIRE's agent refuses calls without this header too.
	headers, _ := metadata.FromIncomingContext(stream.Context())
	if found := headers.Get("workload.spiffe.io"); len(found) != 1 || found[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	for {
		next := a.turns.wait()
		svid, err := a.issue()
		if err != nil {
			return err
		}
		if err := stream.Send(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{svid}}); err != nil {
			return err
		}
		select {
		case <-next:
		case <-time.After(a.life / 2):
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (a *agent) issue() (*workload.X509SVID, error) {
	id, err := url.Parse(a.id)
	if err != nil {
		return nil, err
	}
	key := newKey()
	// An intermediate shows that the chain is read to its end.
	between := newKey()
	intermediate := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "spire intermediate"}, IsCA: true}, &between.PublicKey, a.root, a.key, a.life)
	leaf := sign(&x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"SPIRE"}},
		URIs:        []*url.URL{id},
		DNSNames:    []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, &key.PublicKey, intermediate, between, a.life)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	chain := append(append([]byte{}, leaf.Raw...), intermediate.Raw...)
	return &workload.X509SVID{SpiffeId: a.id, X509Svid: chain, X509SvidKey: private, Bundle: a.root.Raw}, nil
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

func sign(facts *x509.Certificate, key *ecdsa.PublicKey, by *x509.Certificate, signer *ecdsa.PrivateKey, life time.Duration) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		log.Fatal(err)
	}
	facts.SerialNumber = serial
	facts.NotBefore, facts.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(life)
	facts.BasicConstraintsValid = true
	facts.KeyUsage = x509.KeyUsageDigitalSignature
	if facts.IsCA {
		facts.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if by == nil {
		by = facts
	}
	der, err := x509.CreateCertificate(rand.Reader, facts, by, key, signer)
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}
	return certificate
}

func main() {
	key := newKey()
	trust, err := url.Parse("spiffe://waymark.internal")
	if err != nil {
		log.Fatal(err)
	}
	root := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "spire"}, IsCA: true, URIs: []*url.URL{trust}}, &key.PublicKey, nil, key, time.Hour)
	all := &turns{next: make(chan struct{})}
	for _, argument := range os.Args[1:] {
		socket, rest, _ := strings.Cut(argument, "=")
		id, text, isLimited := strings.Cut(rest, "=")
		life := time.Hour
		if isLimited {
			if life, err = time.ParseDuration(text); err != nil {
				log.Fatal(err)
			}
		}
		listener, err := net.Listen("unix", socket)
		if err != nil {
			log.Fatal(err)
		}
		server := grpc.NewServer()
		workload.RegisterSpiffeWorkloadAPIServer(server, &agent{id: id, life: life, root: root, key: key, turns: all})
		go func() { log.Fatal(server.Serve(listener)) }()
	}
	fmt.Println("serving")
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	for range signals {
		all.turn()
	}
}
