package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
)

// kindRegistered is the kind of the documents of registrations, one for each feed under its name.
const kindRegistered = "registered"

// registered is what is kept of a feed's registration. Whatever the producer is asked for stands here before it is: a
// crash leaves nothing behind that nobody knows of.
type registered struct {
	Root   string    `json:"root"`             // of the service that was subscribed to
	Access string    `json:"access,omitempty"` // sealed: with what the feed asks there, to cancel when it is configured no more
	Self   string    `json:"self,omitempty"`   // the URL of the subscription; empty: there is none
	UUID   string    `json:"uuid,omitempty"`
	Since  time.Time `json:"since,omitzero"` // when it was registered
	Anew   time.Time `json:"anew,omitzero"`  // when another could follow the last that somebody else ended
	Terms  terms     `json:"terms,omitzero"` // as the producer has them
	Token  pushToken `json:"token,omitzero"` // as the producer has it
	Sent   *sending  `json:"sent,omitempty"` // what the producer has not answered yet
	Spare  pushToken `json:"spare,omitzero"` // one that the producer has refused with the rest, for the next attempt
	Old    []retired `json:"old,omitempty"`  // tokens that it may still use
	// Log is the log that the producer had when it took the terms. One that has another was restored, or replaced:
	// it may have them as they were long ago.
	Log entityevent.LogID `json:"log,omitempty"`
	// Gone are the URLs of subscriptions that are no more, the newest last: a restored producer may have them again.
	Gone []string `json:"gone,omitempty"`
}

// goneKept is how many ended subscriptions are remembered.
const goneKept = 20

// over says that all that is left are subscriptions that are no more.
func (r registered) over() bool { return r.Access == "" }

// terms are what a subscription is told once.
type terms struct {
	Callback string `json:"callback"`
	Label    string `json:"label,omitempty"`
	Batch    int    `json:"batch,omitempty"`
}

// pushToken is a token that was issued for pushes.
type pushToken struct {
	ID      string    `json:"id"` // the jti
	Expires time.Time `json:"expires,omitzero"`
	Text    string    `json:"text,omitempty"` // sealed
}

// retired is a token that is revoked after a while, for pushes that are under way.
type retired struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until"`
}

// sending is what the producer is told: a new subscription, or the terms and the token of the one that there is. It is
// repeated as it was, until it is answered.
type sending struct {
	Key   string               `json:"key,omitempty"` // of a new one (Idempotency-Key)
	To    string               `json:"to"`            // the URL
	Begun time.Time            `json:"begun"`
	Terms terms                `json:"terms"`
	From  entityevent.Sequence `json:"from,omitempty"` // 0: now
	Token pushToken            `json:"token"`
	Log   entityevent.LogID    `json:"log,omitempty"` // that we follow
}

// access is how a feed's requests are admitted.
type access struct {
	Token        string `json:"token,omitempty"`
	TokenURL     string `json:"token_url,omitempty"`
	ClientID     string `json:"client_id,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
}

const (
	tokenLife  = 90 * 24 * time.Hour
	tokenRenew = 30 * 24 * time.Hour // before its end
	tokenGrace = 10 * time.Minute    // how long pushes with the one before are still taken
)

// registrant names our tokens of a feed among those that people issue.
func registrant(feed string) string { return feed + " (registered by itself)" }

// read reads the document anew: nobody else writes it, but a commit may have failed after it was done.
func (r *registrar) read(ctx context.Context) (err error) {
	r.now = registered{}
	r.doc, err = r.document(ctx, kindRegistered, r.Name, &r.now)
	return err
}

// write makes the document what r.now says.
func (r *registrar) write(ctx context.Context) error {
	doc := with(r.doc, r.now)
	if _, err := r.Store.Apply(ctx, entityevent.Commit{Feed: r.Name, Docs: []entityevent.Doc{doc}}); err != nil {
		return fmt.Errorf("registration: %w", err)
	}
	r.doc.Version++
	return nil
}

// remove drops the document.
func (r *registrar) remove(ctx context.Context) error {
	r.doc.Body = nil
	if _, err := r.Store.Apply(ctx, entityevent.Commit{Feed: r.Name, Docs: []entityevent.Doc{r.doc}}); err != nil {
		return fmt.Errorf("registration: %w", err)
	}
	return nil
}

func (r *registrar) place(member string) string { return "registration/" + r.Name + "/" + member }

// admission is the feed's access, sealed; what is stored already if that is the same.
func (r *registrar) admission() string {
	// A plain struct always has a JSON text.
	text, _ := json.Marshal(access{r.Feed.Token, r.TokenURL, r.ClientID, r.ClientSecret}) //nolint:gosec // to be sealed
	if stored, err := r.seal.Open(r.now.Access, r.place("access")); err == nil && stored == string(text) {
		return r.now.Access
	}
	return r.seal.Seal(string(text), r.place("access"))
}

// prepare notes what is sent. Terms that the producer should have already go with the token that it should have, all
// else with one that is issued for it: of a crash in between only a token is left, which sweep finds.
func (r *registrar) prepare(ctx context.Context, s sending) error {
	switch left := r.now.Spare; {
	case s.Key == "" && r.good && r.now.Token.Text != "" && r.now.Terms == r.terms():
		s.Token = r.now.Token
	case left.Text != "" && time.Until(left.Expires) > tokenLife-tokenRenew:
		s.Token = left
	default:
		text, issued, err := r.Authority.Issue(ctx, bearer.Token{Audience: bearer.Push(r.Name), Client: registrant(r.Name), Expires: time.Now().Add(tokenLife)})
		if err != nil {
			return err
		}
		s.Token = pushToken{issued.ID, issued.Expires, r.seal.Seal(text, r.place("token/"+issued.ID))}
	}
	s.Begun, s.Terms = time.Now().UTC(), r.terms()
	r.now.Root, r.now.Access, r.now.Sent, r.now.Spare = r.client.root, r.admission(), &s, pushToken{}
	return r.write(ctx)
}

func (r *registrar) terms() terms { return terms{r.Callback, r.Label, r.Batch} }

// sweep revokes the tokens that no producer is to use any more, and says whether the present one is good: a key that
// was replaced, or a person, may have ended it.
func (r *registrar) sweep(ctx context.Context) (good bool, err error) {
	all, err := r.Authority.List(ctx)
	if err != nil {
		return false, err
	}
	keep := map[string]bool{r.now.Token.ID: true, r.now.Spare.ID: true}
	if r.now.Sent != nil {
		keep[r.now.Sent.Token.ID] = true
	}
	for _, o := range r.now.Old {
		keep[o.ID] = time.Now().Before(o.Until)
	}
	for _, t := range all {
		switch {
		case t.Audience != bearer.Push(r.Name) || t.Client != registrant(r.Name):
		case keep[t.ID]:
			good = good || t.ID == r.now.Token.ID && t.Revoked.IsZero() && !t.Foreign
		case t.Revoked.IsZero():
			if err := r.Authority.Revoke(ctx, t.ID); err != nil && !errors.Is(err, bearer.ErrNoToken) {
				return good, err
			}
		}
	}
	return good && time.Until(r.now.Token.Expires) > tokenRenew, nil
}

// retire lets a token be good for a while yet.
func (r *registrar) retire(t pushToken) {
	old := r.now.Old[:0:0]
	for _, o := range r.now.Old {
		if time.Now().Before(o.Until) {
			old = append(old, o)
		}
	}
	if t.ID != "" {
		old = append(old, retired{t.ID, time.Now().Add(tokenGrace).UTC()})
	}
	r.now.Old = old
}
