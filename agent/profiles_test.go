package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

const shortEDMX = `<?xml version="1.0"?><edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0"><edmx:DataServices>
<Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="x"><EntityType Name="Property"><Key><PropertyRef Name="Id"/></Key>
<Property Name="Id" Type="Edm.String" Nullable="false"/><Property Name="ListPrice" Type="Edm.Decimal"/><Property Name="Notes" Type="Edm.String"/></EntityType>
<EntityType Name="OpenHouse"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.String" Nullable="false"/><Property Name="ListingKeyNumeric" Type="Edm.Int64"/></EntityType>
<EntityType Name="Media"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.String" Nullable="false"/><Property Name="ResourceRecordKey" Type="Edm.String"/></EntityType>
<EntityContainer Name="C"><EntitySet Name="Property" EntityType="x.Property"/><EntitySet Name="OpenHouse" EntityType="x.OpenHouse"/><EntitySet Name="Media" EntityType="x.Media"/></EntityContainer></Schema></edmx:DataServices></edmx:Edmx>`

// What a profile speaks of must be in the metadata; where it is not, the error shows the place.
func TestProfilesAndMetadata(t *testing.T) {
	edmx, err := metadata.Read(strings.NewReader(shortEDMX))
	if err != nil {
		t.Fatal(err)
	}
	for rules, want := range map[string]string{
		"Property: {filter: 'ListPrice gt 5', hide: [Notes]}": "",
		"Property: {}":                              "",
		"Property: {filter: 'ListPrize gt 5'}":      "3:30: producer.profiles.idx.Property.filter: ",
		"Property: {filter: \"ListPrice gt 'a'\"}":  "3:30: producer.profiles.idx.Property.filter: ",
		"Property: {hide: [Notes, Secrets]}":        "3:36: producer.profiles.idx.Property.hide[1]: producer.metadata declares no field Secrets",
		"Property: {hide: [Id]}":                    "3:29: producer.profiles.idx.Property.hide[0]: Id is the key of Property",
		"Property: {}, OpenHouse: {with: Property}": "3:43: producer.profiles.idx.OpenHouse.with: producer.metadata declares no field ListingKey of OpenHouse, which names its Property",
		"Property: {}, Media: {with: Property}":     "",
		"Rooms: {}":                                 "3:11: producer.profiles.idx.Rooms: producer.metadata declares no resource Rooms",
	} {
		c, err := config.Parse("c.yaml", []byte("producer:\n  profiles:\n    idx: {"+rules+"}\n"), os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		err = checkProfiles(c, edmx)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), "c.yaml:"+want) {
			t.Errorf("%s: %v, want %s", rules, err, want)
		}
		if err := checkProfiles(c, nil); err != nil {
			t.Errorf("%s without metadata: %v", rules, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "m.xml"), []byte(shortEDMX), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(filepath.Join(dir, "c.yaml"), []byte("producer:\n  metadata: m.xml\n  profiles: {idx: {Rooms: {}}}\n"), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	held, err := waitFolder(t.Context(), c.Data, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if a, err := open(t.Context(), c, held, "http://agent", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "c.yaml:3:20: producer.profiles.idx.Rooms") {
		t.Errorf("an agent opens with it: %v, %v", a, err)
	}
}

// What a client may see is named by all that its profile says, and by nothing else.
func TestRulesOfProfiles(t *testing.T) {
	named := map[string]string{}
	for _, rules := range []string{
		"Property: {filter: 'ListPrice gt 5'}", "Property: {filter: 'ListPrice gt 6'}", "Property: {hide: [Notes]}", "Property: {}",
		"Property: {}, Media: {with: Property}", "Property: {}, Media: {}",
	} {
		for _, around := range []string{"", "name: other\n"} {
			c, err := config.Parse("c.yaml", []byte(around+"producer:\n  profiles: {idx: {"+rules+"}}\n  clients: [{name: vendor, profile: idx}]\n"), os.LookupEnv)
			if err != nil {
				t.Fatal(err)
			}
			named[accesses(c, map[string]entityevent.Mask{"idx": 2})["vendor"].client("vendor").Rules] = rules
		}
	}
	if len(named) != 6 {
		t.Errorf("%d names of six profiles: %v", len(named), named)
	}
}

// A profile's filter that the metadata accept means what the same $filter of a client means, though the store
// keeps it as a text, and knows no metadata.
func TestProfilesFilterAsClientsDo(t *testing.T) {
	f, err := os.Open("../testdata/metadata.xml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	edmx, err := metadata.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	record := []byte(`{"ListingKey":"p1","StandardStatus":"Active","PropertyType":"Residential","ShowingDays":"Monday,Friday","Appliances":["Oven"],` +
		`"ArchitecturalStyle":["Ranch"],"ListPrice":100.50,"YearBuilt":1990,"City":"X","InternetEntireListingDisplayYN":true,` +
		`"ModificationTimestamp":"2026-02-01T00:00:00+02:00","ListingContractDate":"2026-01-05","SourceSystemGuid":"0a000000-0000-0000-0000-00000000000A"}`)
	asked, refused := 0, 0
	for _, text := range []string{
		"ModificationTimestamp gt 2026-01-01", "ModificationTimestamp ge 2026-01-01 and StandardStatus eq 'Active'", "ModificationTimestamp ne null", "2026-01-01 lt ModificationTimestamp",
		"ModificationTimestamp gt 2026-01-01T00:00:00Z", "ListingContractDate gt 2026-01-01", "ListingContractDate in (2026-01-05,2026-01-06)", "ListingContractDate eq ListingContractDate",
		"PropertyType eq org.reso.metadata.enums.PropertyType'Residential'", "PropertyType in ('Residential','Land')", "PropertyType eq PropertyType'Residential'", "ShowingDays has 'Monday'",
		"ShowingDays has org.reso.metadata.enums.ShowingDays'Friday'", "ArchitecturalStyle/any(a:a eq org.reso.metadata.enums.ArchitecturalStyle'Ranch')", "ArchitecturalStyle has 'Ranch'", "Appliances/any(a:a eq 'Oven')",
		"InternetEntireListingDisplayYN", "not InternetEntireListingDisplayYN", "InternetEntireListingDisplayYN ne false", "YearBuilt eq 1990.0", "ListPrice gt YearBuilt", "ListPrice lt YearBuilt", "City lt StandardStatus", "City gt StandardStatus",
		"tolower(City) eq 'x'", "startswith(ListingKey,'p')", "SourceSystemGuid eq 0A000000-0000-0000-0000-00000000000a", "ModificationTimestamp gt ListingContractDate",
		"ModificationTimestamp in (2026-01-31T22:00:00Z)", "ModificationTimestamp eq 2026-01-31T22:00:00Z", "ModificationTimestamp lt 2027-01-01",
	} {
		c, err := config.Parse("c.yaml", []byte("producer:\n  profiles:\n    idx: {Property: {filter: \""+text+"\"}}\n"), os.LookupEnv)
		if err == nil {
			err = checkProfiles(c, edmx)
		}
		if err != nil {
			refused++ // whoever wrote it is told
			continue
		}
		typed, err := odata.ParseFilter(text, edmx.Scope("Property"))
		if err != nil {
			t.Fatal(err)
		}
		all, err := profiles(c)
		if err != nil {
			t.Fatal(err)
		}
		member := func(name string) []byte { return entityevent.Member(record, name) }
		kept, err := odata.ParseFilter(all[0].Resources["Property"].Filter.String(), nil) // as the store keeps it
		if err != nil {
			t.Fatal(text, err)
		}
		if client, profile := odata.Holds(typed, member), odata.Holds(kept, member); client != profile {
			t.Errorf("%s: as $filter %v, as the filter of a profile %v", text, client, profile)
		}
		asked++
	}
	if asked < 2*refused {
		t.Errorf("%d were compared and %d refused", asked, refused)
	}
}

// A client of a profile sees records inside others only of a resource that the profile shows whole, or with them.
func TestInlineRecordsOfProfiles(t *testing.T) {
	c, err := config.Parse("c.yaml", []byte(`producer:
  clients: [{name: a, profile: idx}, {name: b}]
  profiles:
    idx:
      Property: {filter: "ListPrice gt 1"}
      Media: {with: Property}
      Member: {hide: [MemberEmail]}
`), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	all := accesses(c, nil)
	if got := all["a"].inline; !maps.Equal(got, map[string]string{"Media": "Property", "Member": ""}) {
		t.Errorf("%v", got)
	}
	if got := slices.Sorted(slices.Values(all["a"].resources)); !slices.Equal(got, []string{"Media", "Member", "Property"}) {
		t.Errorf("it knows %v", got)
	}
	if got := all["b"]; got.profile != "" || got.inline != nil {
		t.Errorf("without a profile: %+v", got)
	}
}

// reviewing is a store whose pass has so many steps, of which some fail.
type reviewing struct {
	entityevent.Profiles
	steps, fails int
	asked        int
}

func (r *reviewing) Review(context.Context) (bool, error) {
	r.asked++
	if r.fails > 0 && r.asked%2 == 0 {
		r.fails--
		return false, errors.New("the disk is full")
	}
	r.steps--
	return r.steps > 0, nil
}

// The pass goes on until it is done, over failures of the store, and says so while it runs: once in the log when it
// begins, fails and ends.
func TestReviewOfProfiles(t *testing.T) {
	for _, c := range []struct {
		steps, fails int
		lines        []string
	}{
		{1, 0, nil},
		{5, 0, []string{"profiles changed", "as the profiles say"}},
		{5, 2, []string{"profiles changed", "cannot go on", "cannot go on", "as the profiles say"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			store := &reviewing{steps: c.steps, fails: c.fails}
			r := &review{store: store, logger: slog.New(slog.NewTextHandler(&log, nil))}
			done := make(chan error)
			go func() { done <- r.run(t.Context()) }()
			if c.fails > 0 {
				time.Sleep(time.Second) // while it waits after a failure
				if r.underWay().IsZero() {
					t.Error("nobody is told that the pass is under way")
				}
			}
			if err := <-done; err != nil || store.steps != 0 || !r.underWay().IsZero() {
				t.Errorf("%v; %d steps are left; under way since %v", err, store.steps, r.underWay())
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			if c.lines == nil {
				lines = lines[1:]
			}
			if len(lines) != len(c.lines) {
				t.Fatalf("logged\n%s", log.String())
			}
			for i, want := range c.lines {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %d is %s, want %s", i, lines[i], want)
				}
			}
		})
	}
}

func TestReviewEndsWithTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &review{store: &reviewing{steps: 1e9, fails: 1e9}, logger: slog.New(slog.DiscardHandler)}
		done := make(chan error)
		go func() { done <- r.run(ctx) }()
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// compacting is a store that drops something each time, unless it fails.
type compacting struct {
	mu   sync.Mutex
	at   []time.Time
	asks []entityevent.Compaction
	err  error
}

func (c *compacting) Compact(ctx context.Context, q entityevent.Compaction) (entityevent.Compacted, error) {
	c.mu.Lock()
	c.at, c.asks = append(c.at, time.Now()), append(c.asks, q)
	c.mu.Unlock()
	select {
	case <-time.After(time.Minute):
	case <-ctx.Done():
		return entityevent.Compacted{Events: 1}, context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return entityevent.Compacted{Events: 10, Forgotten: 2}, c.err
}

func (c *compacting) asked() ([]time.Time, []entityevent.Compaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.at), slices.Clone(c.asks)
}

func (c *compacting) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// The log is compacted at its time, one after the other, with what is to be forgotten.
func TestCompactionOnSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		store := &compacting{}
		c := newCompaction(&config.Config{Compact: "30 4 * * *", Forget: config.Age(90 * 24 * time.Hour)}, store, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.run(ctx) }()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		at, asks := store.asked()
		if len(at) != 1 || at[0].Local().Format("15:04:05") != "04:30:00" || !asks[0].Forget.Equal(at[0].Add(-90*24*time.Hour)) {
			t.Fatalf("at %v: %+v", at, asks)
		}
		if dropped, ended := c.counts(); dropped != (entityevent.Compacted{Events: 10, Forgotten: 2}) || !ended.Equal(at[0].Add(time.Minute)) {
			t.Errorf("%+v, %v", dropped, ended)
		}
		store.fail(errors.New("the disk is full"))
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		at, _ = store.asked()
		if _, ended := c.counts(); len(at) != 2 || !ended.Equal(at[0].Add(time.Minute)) {
			t.Errorf("a failure counts: %v %v", at, ended)
		}
		if strings.Count(log.String(), "level=ERROR") != 1 || strings.Count(log.String(), "events=10 forgotten=2") != 1 {
			t.Errorf("logged:\n%s", log.String())
		}
		store.fail(nil)
		for range 2 { // two commands at once
			go func() { _, err := c.once(t.Context()); done <- err }()
		}
		synctest.Wait()
		if at, _ = store.asked(); len(at) != 3 {
			t.Errorf("%d at the same time", len(at)-2)
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := newCompaction(&config.Config{Compact: config.Never}, nil, nil).run(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
