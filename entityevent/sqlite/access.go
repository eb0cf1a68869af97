package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

const (
	accessKind = "access"
	accessID   = "profiles"
)

// SetProfiles implements entityevent.Profiles.
func (s *Store) SetProfiles(ctx context.Context, profiles []entityevent.Profile) (map[string]entityevent.Mask, error) {
	masks := map[string]entityevent.Mask{}
	wanted, err := describe(profiles)
	if err == nil {
		err = s.write(ctx, &call{rows: 1, run: func(t *tx) error {
			next, changed, err := t.rules.access.set(wanted)
			if err != nil {
				return err
			}
			for name := range wanted {
				masks[name] = next.Profiles[name].mask()
			}
			if !changed {
				return nil
			}
			rules, err := newRules(next)
			if err != nil {
				return err
			}
			return t.setRules(rules)
		}})
	}
	if err != nil {
		return nil, fmt.Errorf("set profiles: %w", err)
	}
	return masks, nil
}

// PlanProfiles implements entityevent.Profiles.
func (s *Store) PlanProfiles(ctx context.Context, profiles []entityevent.Profile) (masks map[string]entityevent.Mask, changed bool, err error) {
	masks = map[string]entityevent.Mask{}
	wanted, err := describe(profiles)
	if err == nil {
		err = s.read(ctx, func(c *conn) error {
			now, err := c.readRules()
			if err != nil {
				return err
			}
			var next *access
			if next, changed, err = now.access.set(wanted); err != nil {
				return err
			}
			for name := range wanted {
				masks[name] = next.Profiles[name].mask()
			}
			return nil
		})
	}
	if err != nil {
		return nil, false, fmt.Errorf("plan profiles: %w", err)
	}
	return masks, changed, nil
}

// rules are the profiles as the writer looks at them. They are never changed, only replaced.
type rules struct {
	access  *access
	version int64                                  // of its document
	bits    entityevent.Mask                       // of the profiles
	of      map[string]*rule                       // by resource; none: nobody with a profile sees it
	shares  map[string]map[string]entityevent.Mask // by a resource and another, whose records share the views of its own: for whom
}

// rule is who sees the records of one resource.
type rule struct {
	all     entityevent.Mask            // these see every one
	filters []condition                 // those see what meets it
	with    map[string]entityevent.Mask // and those what has a visible parent of this resource
}

type condition struct {
	mask entityevent.Mask
	expr odata.Expr
}

func newRules(a *access) (*rules, error) {
	r := &rules{access: a, of: map[string]*rule{}, shares: map[string]map[string]entityevent.Mask{}}
	for name, p := range a.Profiles {
		if !p.Off {
			r.bits |= p.mask()
		}
		for resource, s := range p.shows() {
			if r.of[resource] == nil {
				r.of[resource] = &rule{with: map[string]entityevent.Mask{}}
			}
			rule := r.of[resource]
			switch {
			case s.With != "":
				rule.with[s.With] |= p.mask()
				if r.shares[s.With] == nil {
					r.shares[s.With] = map[string]entityevent.Mask{}
				}
				r.shares[s.With][resource] |= p.mask()
			case s.Filter == "":
				rule.all |= p.mask()
			default:
				if err := rule.filter(s.Filter, p.mask()); err != nil {
					return nil, fmt.Errorf("profile %s: %s: %w", name, resource, err)
				}
			}
		}
	}
	return r, nil
}

// filter adds a condition, and asks it once for all profiles that have the same.
func (r *rule) filter(text string, m entityevent.Mask) error {
	for i := range r.filters {
		if r.filters[i].expr.String() == text {
			r.filters[i].mask |= m
			return nil
		}
	}
	expr, err := odata.ParseFilter(text, nil)
	r.filters = append(r.filters, condition{m, expr})
	return err
}

// readRules returns what is stored.
func (c *conn) readRules() (*rules, error) {
	var a access
	var version int64
	var err error
	if _, qerr := c.one(docQuery, func(row []driver.Value) {
		version = integer(row[0])
		body, _ := row[1].([]byte)
		err = json.Unmarshal(body, &a)
	}, accessKind, accessID); qerr != nil {
		return nil, qerr
	}
	if err != nil {
		return nil, fmt.Errorf("%w: its profiles: %w", errDamaged, err)
	}
	r, err := newRules(&a)
	if err != nil {
		return nil, err
	}
	r.version = version
	return r, nil
}

// setRules stores the rules, which count from here on.
func (t *tx) setRules(next *rules) error {
	body, err := json.Marshal(next.access)
	if err != nil {
		return err
	}
	next.version = t.rules.version + 1
	doc := entityevent.Doc{Kind: accessKind, ID: accessID, Version: t.rules.version, Body: body}
	t.rules = next
	return t.writeDocs([]entityevent.Doc{doc})
}

const viewsQuery = `SELECT views FROM records WHERE feed = ? AND resource = ? AND key = ?`

// views returns who may see a record of this content that belongs to this parent, as its columns say.
func (t *tx) views(feed string, ref entityevent.Ref, body []byte, parentResource, parentKey any) (entityevent.Mask, error) {
	rule := t.rules.of[ref.Resource]
	if rule == nil {
		return entityevent.Everyone, nil
	}
	views := entityevent.Everyone | rule.all
	for _, c := range rule.filters {
		if odata.Holds(c.expr, func(name string) []byte { return entityevent.Member(body, name) }) {
			views |= c.mask
		}
	}
	shared := rule.with[str(parentResource)]
	if shared == 0 {
		return views, nil
	}
	_, err := t.one(viewsQuery, func(row []driver.Value) {
		views |= shared & entityevent.Mask(integer(row[0]))
	}, feed, parentResource, parentKey)
	return views, err
}
