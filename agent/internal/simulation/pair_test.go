package simulation

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/retry"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

// The resources and their keys. The feed does not copy Team.
var (
	keyField  = map[string]string{"Property": "ListingKey", "Member": "MemberKey", "Office": "OfficeKey", "Teams": "TeamKey"}
	resources = []string{"Property", "Member", "Office", "Teams"}
	copied    = []string{"Property", "Member", "Office"}
)

func edmx() string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?><edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>` +
		`<Schema Namespace="org.reso.metadata" xmlns="http://docs.oasis-open.org/odata/ns/edm">`)
	for _, r := range resources {
		fmt.Fprintf(&b, `<EntityType Name=%q><Key><PropertyRef Name=%q/></Key><Property Name=%q Type="Edm.String"/>`+
			`<Property Name="Rev" Type="Edm.Int64"/><Property Name="Note" Type="Edm.String"/><Property Name="Status" Type="Edm.String"/>`+
			`<Property Name="ModificationTimestamp" Type="Edm.DateTimeOffset"/></EntityType>`, r, keyField[r], keyField[r])
	}
	b.WriteString(`<EntityContainer Name="Default">`)
	for _, r := range resources {
		fmt.Fprintf(&b, `<EntitySet Name=%q EntityType="org.reso.metadata.%s"/>`, r, r)
	}
	b.WriteString(`</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>`)
	return b.String()
}

type openGate struct{}

func (openGate) Admit(*http.Request, string) (producer.Client, error) {
	return producer.Client{Name: "vendor", Mask: entityevent.Everyone}, nil
}

// signingKey is the consumer's.
var signingKey = ed25519.NewKeyFromSeed([]byte("a simulation needs no real secret"[:ed25519.SeedSize]))

// The subscriptions of the producer.
const (
	toFeed    = "feed"
	toWitness = "witness"
)

// startProducer sets a producer going: a server and its pushers.
func (w *world) startProducer(l *life) error {
	if w.renames(time.Now()) && w.plan.renameAfter == 0 { // as one should: before anybody can ask
		if _, err := l.store.NewLog(l.ctx); err != nil {
			return err
		}
		w.renamed()
	}
	w.truth.follow(l.store.LogID())
	w.checkProducer(l.store)
	schema, err := metadata.Read(strings.NewReader(edmx()))
	if err != nil {
		return err
	}
	served, err := producer.OpenSchema(l.ctx, l.store, entityevent.Local, schema, nil)
	if err != nil {
		return err
	}
	l.handler = &producer.Server{Store: &door{Store: l.store, life: l, who: "server"}, Schema: served, Gate: openGate{},
		Root: "http://producer.test/odata", Prefix: "/odata", Writable: true}
	l.pushers = map[string]*producer.Pusher{}
	for name, link := range map[string]string{toFeed: pushLink, toWitness: witnessLink} {
		if err := w.heedStored(l.store, name, link); err != nil {
			return err
		}
		s := producer.Subscription{Name: name, Client: "vendor", Mask: entityevent.Everyone, BatchEvents: w.plan.pushEvents, BatchBytes: w.plan.pushBytes,
			URL: "http://consumer.test/webhooks/" + feedName, Token: w.plan.token}
		if name == toWitness {
			s.URL, s.Token = "http://witness.test/hook", "x"
		}
		p := &producer.Pusher{Store: &door{Store: l.store, life: l, who: "pusher " + name, applied: w.witness.created}, Subscription: s,
			HTTP: &http.Client{Transport: &transport{network: w.network, life: l, link: link}}, SuspendAfter: w.plan.suspendAfter}
		l.pushers[name] = p
		l.run("pusher "+name, p.Run)
	}
	return nil
}

// heedStored holds a new life to the waits that the one before has stored.
func (w *world) heedStored(store *sqlite.Store, name, link string) error {
	states, err := producer.Subscriptions(context.Background(), store)
	if err != nil {
		return err
	}
	w.network.asked(link, time.Time{})
	for _, s := range states {
		if s.Name == name && s.Status == producer.Active {
			w.network.asked(link, s.HaltedUntil)
		}
	}
	return nil
}

// resume is what the operator does about suspended subscriptions.
func (w *world) resume(ctx context.Context) {
	l := w.producer.alive()
	if l == nil || !l.enter() {
		return
	}
	defer l.leave()
	states, err := producer.Subscriptions(ctx, l.store)
	for _, s := range states {
		if s.Status != producer.Suspended {
			continue
		}
		w.network.asked(map[string]string{toFeed: pushLink, toWitness: witnessLink}[s.Name], time.Time{})
		err = errors.Join(err, producer.Resume(ctx, &door{Store: l.store, life: l, who: "operator"}, s.Name))
		l.pushers[s.Name].Wake()
	}
	if err != nil && !l.gone() && ctx.Err() == nil {
		w.violated("the operator can resume", "%v", err)
	}
}

// startConsumer sets a consumer going: a feed and the receiver of its pushes.
func (w *world) startConsumer(l *life) error {
	d := &door{Store: l.store, life: l, who: "feed", applied: w.replica.apply, received: w.replica.receive, swift: true}
	w.network.asked(pollLink, time.Time{}) // a consumer does not remember over a restart what it was asked
	f := &consumer.Feed{Name: feedName, URL: "http://producer.test/odata", Resources: copied, Store: d, LongPoll: w.plan.longPoll, Poll: w.plan.poll,
		ReconcileAt: w.plan.reconcileAt, Rate: w.plan.rate, PageSize: w.plan.pageSize, KeyBatch: w.plan.keyBatch,
		HTTP: &http.Client{Transport: &transport{network: w.network, life: l, link: pollLink}}}
	if err := f.Check(); err != nil {
		return err
	}
	l.handler = &consumer.Receiver{Feeds: map[string]*consumer.Feed{feedName: f}, MaxPending: w.plan.maxPending,
		Authority: &bearer.Authority{Key: signingKey, Store: &door{Store: l.store, life: l, who: "receiver"}}}
	l.run("follow", f.Follow)
	l.run("apply", f.Apply)
	l.run("reconcile", f.ReconcileOnSchedule)
	return nil
}

// restoreConsumer puts a copy of some time ago in the place of the consumer's database, if so planned.
func (w *world) restoreConsumer(n *node, file string) {
	switch {
	case !w.plan.copied:
	case n.crashes == 1 && w.kept == nil:
		w.kept = w.replica.snapshot()
		w.must(copyFile(file, file+".copy"))
	case n.crashes >= 2 && w.kept != nil && w.kept.w == nil:
		w.note("consumer: an old copy takes the place of its database")
		w.replica.restore(w.kept)
		w.kept.w = w // done
		w.must(copyFile(file+".copy", file))
		if d := w.dice("after the copy"); d.IntN(3) > 0 { // it is pushed to before it can ask
			w.network.change(episode{from: time.Now(), to: time.Now().Add(between(d, time.Minute, 20*time.Minute)), link: pollLink, name: "partition", odds: 1, make: partition})
		}
	}
}

// restoreProducer restores the producer from a backup, if so planned. What it gave out since, it will give
// out again under the same numbers, until it has another log.
func (w *world) restoreProducer(n *node, file string) {
	switch {
	case !w.plan.restored:
	case n.crashes == 1 && w.backup == nil:
		w.backup = w.truth.snapshot()
		w.must(copyFile(file, file+".copy"))
	case n.crashes >= 2 && w.backup != nil && w.backup.w == nil:
		w.note("producer: restored from a backup")
		w.backup.w = w // done
		w.replica.loosen(w.truth.served())
		w.truth.restore(w.backup)
		w.witness.back(w.truth.head())
		w.renameAt = time.Now().Add(w.plan.renameAfter)
		w.must(copyFile(file+".copy", file))
	}
}

// rename gives the log of a restored producer a name of its own.
func (w *world) rename(ctx context.Context) {
	l := w.producer.alive()
	if !w.renames(time.Now()) || l == nil || !l.enter() {
		return
	}
	defer l.leave()
	if _, err := (&door{Store: l.store, life: l, who: "operator"}).NewLog(ctx); err != nil {
		return // it crashed: again
	}
	w.renamed()
	w.truth.follow(l.store.LogID())
}

func (w *world) renames(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.renameAt.IsZero() && (w.calm || !now.Before(w.renameAt))
}

func (w *world) renamed() {
	w.note("producer: its log has another name")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.renameAt = time.Time{}
}

// issue prepares the consumer's store: it has a token for the producer.
func (w *world) issue() error {
	store, err := sqlite.Open(context.Background(), w.consumer.file(), sqlite.Options{ReadConns: 1})
	if err != nil {
		return err
	}
	a := bearer.Authority{Key: signingKey, Store: store}
	w.plan.token, _, err = a.Issue(context.Background(), bearer.Token{ID: "push", Audience: bearer.Push(feedName), Client: "mls"})
	return errors.Join(err, store.Close())
}

func (w *world) must(err error) {
	if err != nil {
		w.violated("a node starts after any crash", "%v", err)
	}
}

// context is that of what belongs to no life.
func (w *world) context() context.Context { return w.ctx }

func readAll(req *http.Request) []byte {
	// The body is in memory.
	text, _ := io.ReadAll(req.Body)
	return text
}

// patient sleeps, and says whether the run goes on.
func (w *world) patient(d time.Duration) bool {
	select {
	case <-w.over:
		return false
	default:
	}
	return retry.Sleep(w.ctx, d) == nil
}
