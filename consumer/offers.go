package consumer

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// offers are the URLs of what one of our producers serves of the feed beside OData; empty: it does not.
type offers struct {
	Subscriptions string
	Tasks         string
}

const (
	// offersKept is for how long an answer counts.
	offersKept = 10 * time.Minute
	// offersMissed is for how long a producer that has no such answer is not asked again.
	offersMissed = time.Minute
)

// offered remembers what the producer offers.
type offered struct {
	mu    sync.Mutex
	last  offers
	until time.Time // when to ask again
}

// forget lets the producer be asked again: a link of its did not lead anywhere.
func (o *offered) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.until = time.Time{}
}

func (o *offered) known() (offers, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last, time.Now().Before(o.until)
}

func (o *offered) learn(now offers, kept time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last, o.until = now, time.Now().Add(kept)
}

// offers asks the producer for its links, unless it did a short while ago. Only one that sends a log id is asked,
// and what it names counts only if the OData service that it names is this feed's, and on the same origin; another
// offers nothing, which is no error. It blocks on the network.
func (f *Feed) offers(ctx context.Context) (offers, error) {
	if !f.client.pace.isNamed() {
		return offers{}, nil
	}
	if known, ok := f.links.known(); ok {
		return known, nil
	}
	base, ours := strings.CutSuffix(f.client.root, "/odata")
	if !ours {
		return offers{}, nil
	}
	a, err := f.client.as(forPoll).send(ctx, http.MethodGet, base+"/", nil, nil)
	if err != nil {
		if !concernsAll(err) {
			f.links.learn(offers{}, offersMissed)
			return offers{}, nil
		}
		return offers{}, err
	}
	var root struct {
		Links map[string]link `json:"_links"`
	}
	at := a.URL
	if a.decode(&root) != nil {
		root.Links = nil // some other server's page
	}
	var o offers
	if same(at, root.Links["odata"], f.client.root) {
		o.Subscriptions = below(at, root.Links["subscriptions"])
		o.Tasks = below(at, root.Links["tasks"])
	}
	f.links.learn(o, offersKept)
	return o, nil
}

// link is one of HAL. Several under one name are none that we look for.
type link struct{ Href string }

// UnmarshalJSON implements json.Unmarshaler.
func (l *link) UnmarshalJSON(raw []byte) error {
	l.Href = entityevent.StringMember(raw, "href")
	return nil
}

// same says whether a link leads to a URL, but for a slash at its end.
func same(base *url.URL, l link, want string) bool {
	u, err := base.Parse(l.Href)
	return l.Href != "" && err == nil && strings.TrimRight(u.String(), "/") == want
}

// below resolves a link that stays on the origin of its page; "": there is none.
func below(base *url.URL, l link) string {
	u, err := base.Parse(l.Href)
	if l.Href == "" || err != nil || origin(u) != origin(base) {
		return ""
	}
	return u.String()
}
