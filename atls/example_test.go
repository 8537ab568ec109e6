package atls_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
)

// shop is a service with attested TLS, and what its clients need to know of it. In life the owner's CA is
// elsewhere, the server's keys are made in its TEE, and clients have a bundle.
type shop struct {
	server *atls.Server
	client atls.ClientConfig
}

// check keeps the examples short.
func check[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func openShop() shop {
	module := attest.Sum([]byte("the program that the service runs"))
	ca := check(owner.New("Owner of the shop", time.Now(), time.Hour))
	key, ech, tee := check(owner.NewKey()), check(atls.NewECHKey("public.example", 1)), check(sim.NewKey())
	leaf := check(ca.IssueServer(&key.PublicKey, owner.Server{Service: "shop.example", PublicName: "public.example"}, time.Now(), time.Hour))
	server := check(atls.NewServer(context.Background(), atls.ServerConfig{
		Service: "shop.example", Certificate: owner.TLSCertificate(leaf, key), ECHKeys: []*atls.ECHKey{ech},
		Attester: sim.NewAttester(tee, attest.Digest{1}), Identity: attest.Identity{Module: module, Instance: "shop-1"},
	}))
	accepted := check(policy.New([]policy.Identity{policy.Simulated("shop", module, attest.Digest{}, tee.Digest())}, nil))
	return shop{server, atls.ClientConfig{
		Service: "shop.example", Roots: ca.Pool(), ECHConfigList: atls.ECHConfigList(ech),
		Server: policy.NewAppraiser(accepted, attest.NewRegistry(sim.NewVerifier())),
	}}
}

// Attested TLS carries any protocol, here HTTP/1.1. The ALPN protocol stays "mqtt" all the same: it is seen on the wire,
// and tells nothing there.
func Example_http() {
	shop := openShop()
	listener := check(atls.Listen("127.0.0.1:0", shop.server, atls.ListenerOptions{
		Failed: func(peer net.Addr, err error) { fmt.Println("refused", peer, err) },
	}))
	type peerKey struct{}
	web := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer := r.Context().Value(peerKey{}).(*atls.Peer) // what is known of the client
			fmt.Fprintf(w, "hello, client over %s, attested: %v", peer.Carrier, peer.Attested)
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, c.(*atls.Conn).Peer())
		},
		ReadHeaderTimeout: 10 * time.Second,
	}
	go web.Serve(listener)
	defer web.Close() // closes the listener, too

	transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := atls.Dial(ctx, func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}, &shop.client)
		if err != nil {
			return nil, err // not conn, which would be an interface that is not nil
		}
		fmt.Println("verified:", conn.Peer().Identities)
		return conn, nil
	}}
	defer transport.CloseIdleConnections()
	response := check((&http.Client{Transport: transport}).Get("https://" + listener.Addr().String() + "/"))
	defer response.Body.Close()
	fmt.Println(response.Proto, string(check(io.ReadAll(response.Body))))
	// Output:
	// verified: [shop]
	// HTTP/1.1 hello, client over n1, attested: false
}

// Whoever refuses a server knows why.
func ExampleClient() {
	shop := openShop()
	listener := check(atls.Listen("127.0.0.1:0", shop.server, atls.ListenerOptions{}))
	defer listener.Close()

	config := shop.client
	expected := config.Server.Policy().Identities()[0]
	expected.Modules = []attest.Digest{attest.Sum([]byte("another program"))}
	config.Server = policy.NewAppraiser(check(policy.New([]policy.Identity{expected}, nil)), attest.NewRegistry(sim.NewVerifier()))
	raw := check(net.Dial("tcp", listener.Addr().String()))
	_, err := atls.Client(context.Background(), raw, &config)
	var refused *atls.RefusedError
	fmt.Println(errors.Is(err, attest.ErrModule), errors.As(err, &refused) && refused.Verdict.Facts.Instance == "shop-1")
	// Output: true true
}
