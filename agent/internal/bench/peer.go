package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

// open opens a store in a new folder.
func (b *bench) open(ctx context.Context) (*sqlite.Store, string, error) {
	dir, err := b.folder()
	if err != nil {
		return nil, "", err
	}
	store, err := sqlite.Open(ctx, filepath.Join(dir, "store.db"), sqlite.Options{})
	return store, dir, err
}

// serve serves a handler on a free loopback port until stop.
func serve(handler http.Handler) (root string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it lives as long as the measurement
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // it ends with Close, and says so
	return "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

// anyone lets everyone in: what is measured is not the check of a token.
type anyone struct{}

func (anyone) Admit(*http.Request, string) (producer.Client, error) {
	return producer.Client{Name: "bench", Mask: entityevent.Everyone}, nil
}

// odata serves a store's records and log, with the write API.
func odata(ctx context.Context, store *sqlite.Store) (root string, stop func(), err error) {
	schema, err := producer.OpenSchema(ctx, store, entityevent.Local, nil, nil)
	if err != nil {
		return "", nil, err
	}
	server := &producer.Server{Store: store, Feed: entityevent.Local, Prefix: "/odata", Schema: schema, Gate: anyone{}, Writable: true}
	root, stop, err = serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { server.ServeHTTP(w, r) }))
	server.Root = root + "/odata"
	return root, stop, err
}

// receiver is a durable inbox behind a webhook: the whole of the consumer's door but the applier.
func (b *bench) receiver(ctx context.Context, f *consumer.Feed) (handler http.Handler, token string, err error) {
	dir, err := b.folder()
	if err != nil {
		return nil, "", err
	}
	secret, err := bearer.LoadKey(filepath.Join(dir, "key"))
	if err != nil {
		return nil, "", err
	}
	authority := &bearer.Authority{Key: secret, Store: f.Store}
	token, _, err = authority.Issue(ctx, bearer.Token{Audience: "push:" + f.Name})
	return &consumer.Receiver{Feeds: map[string]*consumer.Feed{f.Name: f}, Authority: authority, MaxPending: 1 << 30}, token, err
}

// sink decodes what is pushed, counts it and forgets it.
type sink struct{ events func(n int) }

func (s sink) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	events, err := entityevent.ParseEvents(raw)
	if err != nil {
		return
	}
	s.events(len(events))
}

// subscriber writes the state of a subscription that begins at 0, and returns its pusher.
func subscriber(ctx context.Context, store *sqlite.Store, s producer.Subscription) (*producer.Pusher, error) {
	s.Mask = entityevent.Everyone
	state, err := json.Marshal(producer.SubscriptionState{Name: s.Name, Status: producer.Active})
	if err != nil {
		return nil, err
	}
	doc := entityevent.Doc{Kind: producer.SubscriptionKind, ID: s.Name, Body: state}
	_, err = store.Apply(ctx, entityevent.Commit{Docs: []entityevent.Doc{doc}})
	loopback := producer.CallbackDialer{AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	return &producer.Pusher{Store: store, Subscription: s, HTTP: loopback.Client()}, err
}
