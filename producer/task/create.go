package task

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/digest"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// Limits of what a POST has.
const (
	maxBody   = 1 << 20
	maxRanges = 10_000
	maxURL    = 2000
	maxToken  = 4096
)

// order is the body of POST /tasks.
type order struct {
	Type          string       `json:"type"`
	Resources     []string     `json:"resources"`
	Ranges        []askedRange `json:"ranges"`
	CallbackURL   string       `json:"callbackUrl"`
	CallbackToken string       `json:"callbackToken"`
}

// askedRange is a range of keys that a digest is asked for.
type askedRange struct {
	Resource string `json:"resource"`
	After    string `json:"after,omitempty"`
	To       string `json:"to,omitempty"`
}

func refused(format string, args ...any) error {
	return &reply.Error{Status: http.StatusForbidden, Detail: fmt.Sprintf(format, args...)}
}

// create answers POST /tasks. The task is durable when it is answered.
func (a *asked) create(w http.ResponseWriter, r *http.Request) {
	var o order
	err := reply.Read(r, maxBody, &o)
	if err == nil {
		err = a.check(r.Context(), o)
	}
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	id, err := uuid.NewV7()
	if err == nil {
		s := state{Client: a.client.Name, Type: o.Type, Resources: distinct(o.Resources), Created: time.Now().UTC(), Status: pending}
		if o.CallbackURL != "" {
			s.Callback = &callback{URL: a.Seal.Seal(o.CallbackURL, urlOf(id.String()))}
			if o.CallbackToken != "" {
				s.Callback.Token = a.Seal.Seal(o.CallbackToken, tokenOf(id.String()))
			}
		}
		err = a.add(r.Context(), id.String(), s, o.Ranges)
	}
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	a.signal()
	w.Header().Set("Location", a.url(id.String()))
	w.Header().Set("Retry-After", reply.Seconds(soon))
	reply.Write(w, http.StatusAccepted, reply.HAL, map[string]any{
		"_links": reply.Links{"self": reply.Link{Href: a.href(id.String())}}, "UUID": id.String(), "status": pending, "progress": 0,
		"message": "The " + o.Type + " has been accepted: ask its URL until it is done.",
	})
}

// What the secrets of a task are sealed for.
func urlOf(id string) string   { return kind + "/" + id + "/url" }
func tokenOf(id string) string { return kind + "/" + id + "/token" }

// distinct returns the names, each once.
func distinct(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// check refuses what is not done for this client.
func (a *asked) check(ctx context.Context, o order) error {
	switch {
	case o.Type != snapshot && o.Type != digests:
		return refused("There are no tasks of this type: the types are %s and %s", snapshot, digests)
	case o.Type == snapshot && len(o.Ranges) > 0:
		return refused("A snapshot has no ranges: name resources, or ask for a %s", digests)
	case len(o.Ranges) > maxRanges:
		return refused("More than %d ranges: ask for them in several tasks", maxRanges)
	}
	names := slices.Clone(o.Resources)
	ranges := map[string][]digest.Range{}
	for _, r := range o.Ranges {
		if slices.Contains(o.Resources, r.Resource) {
			return refused("The digest of %.255q is asked for as a whole and by ranges: leave one of the two out", r.Resource)
		}
		ranges[r.Resource] = append(ranges[r.Resource], digest.Range{After: r.After, To: r.To})
		names = append(names, r.Resource)
	}
	for _, of := range ranges {
		if _, err := digest.Over(of); errors.Is(err, entityevent.ErrInvalid) {
			return refused("The ranges of a resource must be in the order of their keys, and none may be empty or begin before the end of the one before")
		}
	}
	shown := a.Server.Snapshot(a.client)
	for _, name := range distinct(names) {
		ok, err := shown.Knows(ctx, name)
		if err != nil {
			return err
		}
		if !ok {
			return refused("There is no resource %.255q that you may see: the resources are in the service document", name)
		}
	}
	return a.checkCallback(ctx, o)
}

func (a *asked) checkCallback(ctx context.Context, o order) error {
	unprintable := func(c rune) bool { return c <= ' ' || c > '~' }
	switch {
	case o.CallbackURL == "" && o.CallbackToken != "":
		return refused("There is a callbackToken and no callbackUrl: name where the result is to be posted, or leave the token out")
	case o.CallbackURL == "":
		return nil
	case len(o.CallbackURL) > maxURL:
		return refused("The callbackUrl is longer than %d characters", maxURL)
	case len(o.CallbackToken) > maxToken, strings.ContainsFunc(o.CallbackToken, unprintable):
		return refused("The callbackToken is longer than %d characters, or has others than the printable ones of ASCII", maxToken)
	}
	if err := a.Callbacks.CheckURL(ctx, o.CallbackURL); err != nil {
		if errors.Is(err, producer.ErrCallback) {
			return refused("%v", err)
		}
		return err
	}
	return nil
}
