package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/producer"
)

// profiles are those of the configuration, as the store wants them. The configuration was checked.
func profiles(c *config.Config) ([]entityevent.Profile, error) {
	if c.Producer == nil {
		return nil, nil
	}
	var all []entityevent.Profile
	for _, name := range slices.Sorted(maps.Keys(c.Producer.Profiles)) {
		p := entityevent.Profile{Name: name, Resources: map[string]entityevent.Access{}}
		for resource, access := range c.Producer.Profiles[name] {
			rule := entityevent.Access{With: access.With, Hide: access.Hide}
			if access.Filter != "" {
				var err error
				if rule.Filter, err = odata.ParseFilter(access.Filter, nil); err != nil {
					return nil, fmt.Errorf("producer.profiles.%s.%s.filter: %w", name, resource, err)
				}
			}
			p.Resources[resource] = rule
		}
		all = append(all, p)
	}
	return all, nil
}

// setProfiles makes the store know the profiles of the configuration. Only what writes records does so: who looks
// with another configuration leaves the store as it is.
func (a *agent) setProfiles(ctx context.Context) error {
	if _, changed, err := a.store.PlanProfiles(ctx, a.profiles); err != nil || !changed {
		return err
	}
	_, err := a.store.SetProfiles(ctx, a.profiles)
	return err
}

// writing sets the profiles before a request that writes records.
func (a *agent) writing(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !isSet(r.URL.Query(), "dry-run") {
			if err := a.setProfiles(r.Context()); err != nil {
				refuse(w, err)
				return
			}
		}
		next(w, r)
	}
}

// checkProfiles compares the profiles with the metadata, if the configuration names any: what they speak of
// must be there.
func checkProfiles(c *config.Config, edmx *metadata.Schema) error {
	if c.Producer == nil || edmx == nil {
		return nil
	}
	var wrong []config.Problem
	report := func(path, format string, args ...any) {
		wrong = append(wrong, config.Problem{Path: path, Text: fmt.Sprintf(format, args...)})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Producer.Profiles)) {
		for _, resource := range slices.Sorted(maps.Keys(c.Producer.Profiles[name])) {
			path, access := "producer.profiles."+name+"."+resource, c.Producer.Profiles[name][resource]
			scope := edmx.Scope(resource)
			if scope == nil {
				report(path, "producer.metadata declares no resource %s", resource)
				continue
			}
			if access.Filter != "" {
				if _, err := odata.ParseFilter(access.Filter, scope); err != nil {
					report(path+".filter", "%v", err)
				}
			}
			if access.With != "" {
				if field := lacksParent(resource, func(name string) bool { _, declared := scope.Field(name); return declared }); field != "" {
					report(path+".with", "producer.metadata declares no field %s of %s, which names its %s: nobody would see any", field, resource, access.With)
				}
			}
			key, _, _ := edmx.KeyField(resource)
			for i, field := range access.Hide {
				at := fmt.Sprintf("%s.hide[%d]", path, i)
				if _, declared := scope.Field(field); !declared {
					report(at, "producer.metadata declares no field %s of %s", field, resource)
				} else if field == key {
					report(at, "%s is the key of %s: without it nobody can tell its records apart", field, resource)
				}
			}
		}
	}
	return c.Refuse(wrong...)
}

// lacksParent returns the field by which records of a resource name their parent, if they do not have it.
func lacksParent(resource string, has func(field string) bool) (field string) {
	_, _, found := metadata.Parent(resource, func(name string) string {
		if has(name) {
			return name
		}
		field = name
		return ""
	})
	if found {
		return ""
	}
	return field
}

// accesses is what the clients of the configuration may do and see, by name.
func accesses(c *config.Config, masks map[string]entityevent.Mask) map[string]access {
	all := map[string]access{}
	if c.Producer == nil {
		return all
	}
	for _, client := range c.Producer.Clients {
		a := accessBy(c, masks, client.Profile)
		a.scopes = client.Scopes
		all[client.Name] = a
	}
	return all
}

// accessBy is what a profile shows; that of "" is everything.
func accessBy(c *config.Config, masks map[string]entityevent.Mask, profile string) access {
	if profile == "" {
		return access{mask: entityevent.Everyone}
	}
	a := access{profile: profile, mask: masks[profile], hide: map[string][]string{}, inline: map[string]string{}, rules: rules(c.Producer.Profiles[profile])}
	for resource, rule := range c.Producer.Profiles[profile] {
		a.resources = append(a.resources, resource)
		if len(rule.Hide) > 0 {
			a.hide[resource] = rule.Hide
		}
		if rule.Filter == "" {
			a.inline[resource] = rule.With
		}
	}
	return a
}

// rules names what a profile says.
func rules(p config.Profile) string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // of types that always can
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// anonymous is who listens to session events without a token; nil: nobody may.
func anonymous(c *config.Config, masks map[string]entityevent.Mask) *producer.Client {
	if c.Producer == nil || c.Producer.Sessions.Anonymous == "" {
		return nil
	}
	client := accessBy(c, masks, c.Producer.Sessions.Anonymous).client("anonymous")
	return &client
}

// review is the pass that brings the views of existing records up to what the profiles say now.
type review struct {
	store  entityevent.Profiles
	logger *slog.Logger
	pause  time.Duration // after a step that failed. Default 10s.

	mu    sync.Mutex
	since time.Time // when the pass under way began; zero: none is
}

// run takes steps until nothing is left to do or ctx ends. A store that fails is asked again.
func (r *review) run(ctx context.Context) error {
	steps, failed := 0, false
	for {
		more, err := r.store.Review(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if !failed {
				r.logger.Error("the pass of the profiles cannot go on; it tries again", "err", err)
			}
			failed = true
			select {
			case <-time.After(cmp.Or(r.pause, 10*time.Second)):
			case <-ctx.Done():
			}
			continue
		}
		failed = false
		if more && steps == 0 {
			r.logger.Info("profiles changed: what clients see of existing records is brought up to date")
			r.note(time.Now())
		}
		if steps++; !more {
			break
		}
	}
	if begun := r.underWay(); !begun.IsZero() {
		r.logger.Info("what clients see is as the profiles say", "after", age(time.Since(begun)))
	}
	r.note(time.Time{})
	return nil
}

func (r *review) note(since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = since
}

// underWay is since when the pass runs; zero: it does not.
func (r *review) underWay() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.since
}
