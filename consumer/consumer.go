// Package consumer fills a store from a producer: it receives the events that a producer pushes, polls
// those that it did not, fetches the records that they name, and commits them to the replica.
//
// It promises an exact copy: an event that was acknowledged is in the store; the cursor never passes an
// event that is not; a record and the removal of its events from the inbox commit together; and a record
// is removed only on proof. What it cannot apply it sets aside and shows; what it cannot reach it asks
// for again, for ever, no faster than the producer allows.
package consumer

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/resosync/resosync/entityevent"
)

// Store is what a consumer needs of one.
type Store interface {
	entityevent.Log
	entityevent.Records
	entityevent.Docs
	entityevent.Inbox
}

// Feed follows one producer. Set the fields before the first call and leave them alone afterwards. Its
// methods may be called concurrently; Follow and Apply are the two that run for as long as the agent.
type Feed struct {
	Name  string // of the feed in the store; required
	URL   string // the producer's service root, http or https; required
	Token string // the producer's bearer token; sent to the origin of URL only. Default none.
	// TokenURL, ClientID and ClientSecret take the place of Token: tokens are asked for there (OAuth2 client
	// credentials), and sent to the origin of URL only; the secret is sent to TokenURL only.
	TokenURL, ClientID, ClientSecret string

	Resources []string // those to copy; required. Events of others are acknowledged and ignored.
	Label     string   // what pushes must name, if they name anything. Default: anything.
	LongPoll  bool     // follow at once, where the producer supports it
	Poll      string   // when to poll: cron, or "@every 60s". Default "@every 60s".

	// ReconcileAt is when to reconcile: cron, or "never" for not by itself. Default "0 3 * * *".
	ReconcileAt string

	// Rate is how many requests a second a producer that sends no log id gets; one that does says
	// itself when it wants fewer. Default 1.
	Rate float64
	// Hourly and Daily are how many requests an hour and a day of UTC may have, over restarts too. When
	// few are left, what events name goes before polls, then loads, then reconciling. Default 6800 and
	// 38000 for a producer that sends no log id, none for others.
	Hourly, Daily int

	PageSize int // events or records asked for at once. Default 1000.
	KeyBatch int // keys in one request. Default 100.
	// Settle is how long a producer without a log id may take to publish a number below one that it
	// has published. Default 10s.
	Settle time.Duration

	Register *Registration // has the producer push, for KeepRegistered. Default nil: whoever pushes was told to by people.

	Store  Store        // required
	HTTP   *http.Client // only its Transport is used. Default: a transport of its own.
	Logger *slog.Logger // Default: none.

	once        sync.Once
	failed      error // of prepare
	client      *client
	schema      schema
	schedule    cron.Schedule
	wanted      map[string]bool // Resources
	pull        chan struct{}   // wakes the puller
	apply       chan struct{}   // wakes the applier
	loading     chan struct{}   // held by the one who loads
	complete    bool            // nothing is left to load; guarded by loading
	applying    chan struct{}   // held by the one who applies
	holds       holds           // what the brake holds; guarded by applying
	waits       waits           // whether the producer holds a poll
	links       offered         // what it serves beside OData
	tongue      tongue          // how the producer is asked for several keys
	touched     touched         // what the applier wrote while pages were under way
	reconciling chan struct{}   // held by the one who reconciles
	reconcileAt cron.Schedule   // nil: never by itself
	again       pause           // of resources that failed to load
	replays     replays         // by caches on the way
	resynced    time.Time       // when a load last began because of another log; guarded by loading
	state       state
	stats       stats
	pushing     chan struct{} // held by each push that is read and stored
	storing     storing       // whether pushes can be stored

	registration registration
}

// Check says whether the feed's fields make sense. Every other method does so first.
func (f *Feed) Check() error {
	f.once.Do(func() {
		if err := f.prepare(); err != nil {
			f.failed = fmt.Errorf("feed %s: %w", f.Name, err)
		}
	})
	return f.failed
}

func (f *Feed) prepare() error {
	switch {
	case f.Name == "" || strings.ContainsAny(f.Name, "/?#"):
		return fmt.Errorf("a feed needs a name without / ? #")
	case f.Store == nil:
		return fmt.Errorf("a feed needs a store")
	case len(f.Resources) == 0:
		return fmt.Errorf("a feed needs resources, as [Property, Member, Office, Media]")
	case slices.Contains(f.Resources, ""):
		return fmt.Errorf("a resource without a name")
	}
	root, err := url.Parse(strings.TrimRight(f.URL, "/"))
	if err != nil || root.Host == "" || root.Scheme != "http" && root.Scheme != "https" {
		return fmt.Errorf("its url is not an absolute http or https URL")
	}
	if f.Poll == "" {
		f.Poll = "@every 60s"
	}
	if f.schedule, err = cron.ParseStandard(f.Poll); err != nil {
		return fmt.Errorf("poll %q: %w", f.Poll, err)
	}
	if f.ReconcileAt == "" {
		f.ReconcileAt = "0 3 * * *"
	}
	if f.ReconcileAt != "never" {
		if f.reconcileAt, err = cron.ParseStandard(f.ReconcileAt); err != nil {
			return fmt.Errorf("reconcile %q: %w", f.ReconcileAt, err)
		}
	}
	f.PageSize = positive(f.PageSize, 1000)
	f.KeyBatch = positive(f.KeyBatch, 100)
	if f.Settle <= 0 {
		f.Settle = 10 * time.Second
	}
	if f.Rate <= 0 {
		f.Rate = 1
	}
	if f.Logger == nil {
		f.Logger = slog.New(slog.DiscardHandler)
	}
	f.Logger = f.Logger.With("feed", f.Name)
	f.wanted = map[string]bool{}
	for _, r := range f.Resources {
		f.wanted[r] = true
	}
	p := newPace(f.Rate, newBudget(f.Store, f.Name, f.Hourly, f.Daily, f.Logger), &f.stats)
	who, err := f.identity(p)
	if err != nil {
		return err
	}
	f.client = newClient(root, who, p)
	f.schema = schema{client: f.client, lock: make(chan struct{}, 1)}
	f.pull, f.apply = make(chan struct{}, 1), make(chan struct{}, 1)
	f.pushing = make(chan struct{}, pushesAtOnce)
	f.loading, f.applying, f.reconciling = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	return nil
}

func positive(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

// wake lets whoever waits on c go on, or the next who would wait.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (f *Feed) view() entityevent.View {
	return entityevent.View{Feed: f.Name, Mask: entityevent.Everyone}
}
