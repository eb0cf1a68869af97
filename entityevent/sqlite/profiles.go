package sqlite

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// access is what SetProfiles was told, and what it left to be done: one document.
type access struct {
	Profiles map[string]*profile `json:"profiles"`
	Reviews  []review            `json:"reviews,omitempty"` // in the order in which they are done
}

// profile is what was last set under a name. It is kept for ever, for its bit.
type profile struct {
	Bit       int               `json:"bit"`
	Off       bool              `json:"off,omitempty"` // it is not set at present
	Resources map[string]*shown `json:"resources"`
}

// shown is an entityevent.Access. It is kept when the profile shows the resource no more, for what its clients were
// told last.
type shown struct {
	Off      bool     `json:"off,omitempty"`
	Filter   string   `json:"filter,omitempty"`
	With     string   `json:"with,omitempty"`
	Hide     []string `json:"hide,omitempty"`
	Announce bool     `json:"announce,omitempty"` // they were not told of all that another Hide concerned
	Inner    bool     `json:"inner,omitempty"`    // nor of all that hold records in them
}

// inside says what the profile shows of the resource's records where they stand in those of others.
func (s *shown) inside() string {
	if s == nil || s.Off || s.Filter != "" {
		return "" // nothing: a filter cannot be asked of them
	}
	return fmt.Sprintf("%q %q", s.With, s.Hide)
}

// review is one resource whose records are to be looked at again, for some profiles.
type review struct {
	Resource string           `json:"resource"`
	Bits     entityevent.Mask `json:"bits"`
	Announce entityevent.Mask `json:"announce,omitempty"` // of these, who is told of every record that they see
	Inner    entityevent.Mask `json:"inner,omitempty"`    // and who of every one that may hold others
	Feed     string           `json:"feed,omitempty"`     // where it is: after this feed's key
	Key      string           `json:"key,omitempty"`
}

func (p *profile) mask() entityevent.Mask { return 1 << p.Bit }

// shows returns what the profile shows of its resources at present.
func (p *profile) shows() map[string]*shown {
	now := map[string]*shown{}
	for resource, s := range p.Resources {
		if !p.Off && !s.Off {
			now[resource] = s
		}
	}
	return now
}

// describe returns what profiles show as it is kept, by the names of profile and resource.
func describe(profiles []entityevent.Profile) (map[string]map[string]*shown, error) {
	all := map[string]map[string]*shown{}
	for _, p := range profiles {
		if p.Name == "" || all[p.Name] != nil {
			return nil, fmt.Errorf("%w: profile %q: its name is empty, or there twice", entityevent.ErrInvalid, p.Name)
		}
		all[p.Name] = map[string]*shown{}
		for resource, a := range p.Resources {
			s, err := describeOne(p, a)
			if err != nil {
				return nil, fmt.Errorf("%w: profile %s: %s: %w", entityevent.ErrInvalid, p.Name, resource, err)
			}
			all[p.Name][resource] = s
		}
	}
	return all, nil
}

func describeOne(p entityevent.Profile, a entityevent.Access) (*shown, error) {
	s := &shown{With: a.With, Hide: slices.Compact(slices.Sorted(slices.Values(a.Hide)))}
	if a.With != "" {
		parent, named := p.Resources[a.With]
		switch {
		case a.Filter != nil:
			return nil, errors.New("its records are seen with others or by a filter, not by both")
		case !named:
			return nil, fmt.Errorf("its records are seen with %s, which the profile does not show: name it too", a.With)
		case parent.With != "":
			return nil, fmt.Errorf("its records are seen with %s, whose records are themselves seen with others", a.With)
		}
	}
	if a.Filter == nil {
		return s, nil
	}
	s.Filter = a.Filter.String()
	filter, err := odata.ParseFilter(s.Filter, nil)
	switch {
	case err != nil:
		return nil, fmt.Errorf("its filter cannot be kept: %w", err)
	case odata.At(filter, time.Time{}).String() != s.Filter:
		return nil, errors.New("its filter depends on the time: now() has no place in a profile")
	}
	return s, nil
}

// set returns the document with these profiles in place of those before, and whether that changes anything. It notes
// what is to be reviewed.
func (a *access) set(wanted map[string]map[string]*shown) (next *access, changed bool, err error) {
	before, err := json.Marshal(a)
	if err != nil {
		return nil, false, err
	}
	next = &access{}
	if err := json.Unmarshal(before, next); err != nil {
		return nil, false, err
	}
	reviews := map[string]*review{}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		p, err := next.profile(name)
		if err != nil {
			return nil, false, err
		}
		p.change(wanted[name], reviews)
	}
	for name, p := range next.Profiles {
		if wanted[name] == nil && !p.Off {
			next.switchOff(p)
		}
	}
	next.note(reviews)
	after, err := json.Marshal(next)
	return next, !bytes.Equal(before, after), err
}

// profile returns what is kept under a name, and makes it.
func (a *access) profile(name string) (*profile, error) {
	p := a.Profiles[name]
	if p == nil {
		bit := len(a.Profiles) + 1 // they are never removed
		if bit > entityevent.MaxProfiles {
			return nil, fmt.Errorf("%w: profile %s: %d names have been given a bit in this store, and each keeps it for ever: use a name again that is no longer in use",
				entityevent.ErrInvalid, name, entityevent.MaxProfiles)
		}
		if a.Profiles == nil {
			a.Profiles = map[string]*profile{}
		}
		p = &profile{Bit: bit, Resources: map[string]*shown{}}
		a.Profiles[name] = p
	}
	return p, nil
}

// change makes a profile show these resources, and adds what is to be reviewed for it.
func (p *profile) change(wanted map[string]*shown, reviews map[string]*review) {
	resources := maps.Clone(p.Resources)
	maps.Copy(resources, wanted)
	inner := false // what is shown of records in others is another, and that may be in any
	for resource := range resources {
		inner = inner || p.Resources[resource].inside() != wanted[resource].inside()
	}
	for resource := range resources {
		old, now := p.Resources[resource], wanted[resource]
		was := old != nil && !old.Off && !p.Off
		// While a profile is off nobody keeps its bit up to date.
		look, announce, within := p.Off || was != (now != nil), false, inner && now != nil && old != nil
		if now == nil {
			off := *old
			off.Off = true
			p.Resources[resource] = &off
		} else {
			p.Resources[resource] = now
			if old != nil {
				look = look || old.Filter != now.Filter || old.With != now.With
				announce = old.Announce || !slices.Equal(old.Hide, now.Hide)
				within = within || old.Inner
			}
		}
		if !look && !announce && !within {
			continue
		}
		r := reviews[resource]
		if r == nil {
			r = &review{Resource: resource}
			reviews[resource] = r
		}
		r.Bits |= p.mask()
		if announce {
			r.Announce |= p.mask()
		}
		if within {
			r.Inner |= p.mask()
		}
	}
	p.Off = false
}

// switchOff takes a profile away. What was to be reviewed for it will be when it is set again.
func (a *access) switchOff(p *profile) {
	p.Off = true
	for i := range a.Reviews {
		r := &a.Reviews[i]
		if s := p.Resources[r.Resource]; s != nil {
			s.Announce = s.Announce || r.Announce&p.mask() != 0
			s.Inner = s.Inner || r.Inner&p.mask() != 0
		}
		r.drop(p.mask())
	}
	a.Reviews = slices.DeleteFunc(a.Reviews, review.empty)
}

// note adds reviews that begin at the first record. What is under review for the same profile already begins anew.
func (a *access) note(reviews map[string]*review) {
	for i := range a.Reviews {
		old := &a.Reviews[i]
		if r := reviews[old.Resource]; r != nil {
			r.Announce |= old.Announce & r.Bits
			r.Inner |= old.Inner & r.Bits
			old.drop(r.Bits)
		}
	}
	a.Reviews = slices.DeleteFunc(a.Reviews, review.empty)
	// Parents come first, for the records that share their views change with them.
	shared := map[string]int{}
	for _, p := range a.Profiles {
		for resource, s := range p.shows() {
			if s.With != "" {
				shared[resource] = 1
			}
		}
	}
	for _, r := range slices.SortedFunc(maps.Values(reviews), func(x, y *review) int {
		return cmp.Or(cmp.Compare(shared[x.Resource], shared[y.Resource]), cmp.Compare(x.Resource, y.Resource))
	}) {
		a.Reviews = append(a.Reviews, *r)
	}
}

func (r *review) drop(m entityevent.Mask) {
	r.Bits &^= m
	r.Announce &^= m
	r.Inner &^= m
}

func (r review) empty() bool { return r.Bits == 0 }
