package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// MaxProfiles is how many profiles a configuration may have: each has a bit of a mask.
const MaxProfiles = 62

// Profile says what its clients see, by resource. A resource that is not named is invisible.
type Profile map[string]Access

// Access is what is seen of a resource: all of it, or what the filter keeps, or what belongs to a record
// that is seen.
type Access struct {
	Filter string   `yaml:"filter"` // OData, over the record's own fields
	With   string   `yaml:"with"`   // the resource of the same profile whose records its records belong to
	Hide   []string `yaml:"hide"`   // fields that are never shown
}

func (r *reader) profiles(p *Producer) {
	if len(p.Profiles) > MaxProfiles {
		r.report("producer.profiles", "there are %d, and %d is the most: let clients share one", len(p.Profiles), MaxProfiles)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Profiles)) {
		profile, path := p.Profiles[name], "producer.profiles."+name
		switch {
		case !plainName.MatchString(name):
			r.report(path, badName, name)
		case name == "all":
			r.report(path, "all is what a client without a profile sees: choose another name")
		}
		if len(profile) == 0 {
			r.report(path, `it shows nothing: name its resources, as {Property: {filter: "StandardStatus eq 'Active'"}}`)
		}
		for _, resource := range slices.Sorted(maps.Keys(profile)) {
			r.access(path+"."+resource, resource, profile, p.Keys)
			if known, ok := metadata.KnownResource(resource); ok && known != resource && p.Metadata == "" && p.Keys[resource] == "" {
				r.report(path+"."+resource, "did you mean %s? Names are told apart by their case", known)
			}
		}
	}
}

func (r *reader) access(path, resource string, in Profile, keys map[string]string) {
	r.resource(path, resource)
	a := in[resource]
	if a.Filter != "" {
		r.filter(path+".filter", a.Filter)
	}
	if a.With != "" {
		r.with(path+".with", resource, in)
	}
	hidden := map[string]bool{}
	for i, field := range a.Hide {
		at := fmt.Sprintf("%s.hide[%d]", path, i)
		switch {
		case !metadata.Identifier(field):
			r.report(at, "%q is not the name of a field", field)
		case field == keyOf(resource, keys):
			r.report(at, "%s is the key of %s: without it nobody can tell its records apart", field, resource)
		case hidden[field]:
			r.report(at, "%s stands there twice", field)
		}
		hidden[field] = true
	}
}

// keyOf is the key field of a resource as far as it is known without its records and an EDMX.
func keyOf(resource string, keys map[string]string) string {
	known, _ := metadata.KnownKey(resource)
	return cmp.Or(keys[resource], known, resource+"Key")
}

func (r *reader) with(path, resource string, in Profile) {
	parent, known := in[in[resource].With]
	switch with := in[resource].With; {
	case in[resource].Filter != "":
		r.report(path, "a record is seen with another or by a filter: leave out one of the two")
	case with == resource:
		r.report(path, "%s cannot be seen with itself: name the resource that its records belong to", resource)
	case !known:
		r.report(path, "this profile does not show %s: give it a rule of its own beside this one", with)
	case parent.With != "":
		r.report(path, "%s is seen with %s itself: name a resource that has a rule of its own", with, parent.With)
	case !belongs(resource, with):
		r.report(path, "the records of %s belong to none of %s by the Data Dictionary, so nobody would see any: give it a rule of its own", resource, with)
	}
}

// belongs says whether a record of the resource may belong to one of another.
func belongs(resource, to string) bool {
	parent, _, ok := metadata.Parent(resource, func(string) string { return to })
	return ok && parent == to
}

// filter checks a filter as far as it can be without the fields' types.
func (r *reader) filter(path, text string) {
	expr, err := odata.ParseFilter(text, nil)
	switch {
	case err != nil:
		r.report(path, "%v", err)
	case odata.At(expr, time.Unix(0, 0)).String() != expr.String():
		r.report(path, "now() is not for profiles: what a client sees of a record may change only when the record does")
	}
}
