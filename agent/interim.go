package main

import (
	"context"

	"github.com/resosync/resosync/entityevent"
)

// keeper is a store that knows profiles and compacts its log.
type keeper interface {
	entityevent.Profiles
	entityevent.Compactor
}

// keeperOf is the store, if it is one.
func keeperOf(store any) keeper {
	if k, ok := store.(keeper); ok {
		return k
	}
	return nothing{}
}

type nothing struct{}

func (nothing) SetProfiles(_ context.Context, all []entityevent.Profile) (map[string]entityevent.Mask, error) {
	masks := map[string]entityevent.Mask{}
	for i, p := range all {
		masks[p.Name] = 1 << (i + 1)
	}
	return masks, nil
}

func (nothing) Review(context.Context) (bool, error) { return false, nil }

func (nothing) Compact(context.Context, entityevent.Compaction) (entityevent.Compacted, error) {
	return entityevent.Compacted{}, nil
}
