package consumer_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
)

const capture = "../../shared/capture"

// recorded builds the third-party server from its recorded answers.
func recorded(t *testing.T) *source {
	t.Helper()
	edmx, err := os.ReadFile(filepath.Join(capture, "metadata.xml"))
	if os.IsNotExist(err) {
		t.Skipf("SKIPPED: the recorded answers of a third-party server are not at %s: nothing shows here that one can be replicated", capture)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := newSource("")
	s.metadata = edmx
	s.keys = map[string]string{}
	for _, resource := range []string{"Lookup", "Property", "Member", "Office", "Media", "OpenHouse", "Teams", "OUID", "PropertyRooms"} {
		key, ok := metadata.KnownKey(resource)
		if !ok {
			t.Fatalf("no key of %s", resource)
		}
		s.keys[resource] = key
		for _, record := range pages(t, strings.ToLower(resource)) {
			s.rows[resource] = append(s.rows[resource], row{key: entityevent.StringMember(record, key), body: record})
		}
	}
	for _, record := range pages(t, "entityevent") {
		events, err := entityevent.ParseEvents(record)
		if err != nil {
			t.Fatal(err)
		}
		s.head = int64(events[0].Sequence)
		s.events = append(s.events, row{seq: s.head, body: record})
	}
	if len(s.events) < 3000 || len(s.rows["Property"]) != 40 {
		t.Fatalf("%d events and %d properties in %s", len(s.events), len(s.rows["Property"]), capture)
	}
	return s
}

// pages reads the recorded pages of a resource.
func pages(t *testing.T, name string) (records []json.RawMessage) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(capture, name+"-0?.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages of %s: %v", name, err)
	}
	slices.Sort(files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Value []json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(text, &page); err != nil {
			t.Fatal(err)
		}
		records = append(records, page.Value...)
	}
	return records
}

func (s *source) resources() (names []string) {
	for name := range s.keys {
		names = append(names, name)
	}
	return names
}

func TestRecordedServerIsReplicatedOverSockets(t *testing.T) {
	src := recorded(t)
	server := httptest.NewServer(http.StripPrefix("", src))
	defer server.Close()
	src.root = server.URL + "/odata"
	f := newFeed(t, nil, src.resources()...)
	f.URL, f.HTTP = src.root, server.Client()
	f.Rate, f.Settle = 1e6, 20*time.Millisecond
	catchUp(t, f)
	equal(t, src, f.Store)
	if p := position(t, f); p.Sequence != 3968 {
		t.Errorf("the cursor is at %d, not at the head", p.Sequence)
	}
}

// Each way to ask for several records is used for every event of the log: the server shows its records
// and log only after the first load.
func TestRecordedServerIsFollowed(t *testing.T) {
	for name, limit := range map[string]func(*source){
		"in":     func(*source) {},
		"or":     func(s *source) { s.noIn = true },
		"single": func(s *source) { s.noFilter = true },
	} {
		if testing.Short() && name != "in" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			full := recorded(t)
			synctest.Test(t, func(t *testing.T) {
				src := newSource("")
				src.metadata, src.keys = full.metadata, full.keys
				limit(src)
				f := newFeed(t, to(src), src.resources()...)
				f.Rate = 1e6
				catchUp(t, f)
				src.mu.Lock()
				src.rows, src.events, src.head = full.rows, full.events, full.head
				src.mu.Unlock()
				catchUp(t, f)
				equal(t, src, f.Store)
				if s := status(t, f); s.Sequence != 3968 || s.Pending != 0 || s.Aside != 0 || s.Behind {
					t.Errorf("not level: %+v", s)
				}
				if len(src.asked(map[string]string{"in": "%20in%20", "or": "%20or%20", "single": "Property('"}[name])) == 0 {
					t.Errorf("never asked by %s", name)
				}
			})
		})
	}
}

var _ consumer.Store = entityevent.Store(nil)
