package listing_test

import (
	"bytes"
	"testing"

	"github.com/resosync/resosync/agent/internal/listing"
	"github.com/resosync/resosync/entityevent"
)

func TestMarketHoldsTogether(t *testing.T) {
	for _, size := range []int{10, 200, 2000} {
		m := listing.New(listing.Options{Seed: 7, Records: size})
		keys := map[string]string{"Office": "OfficeKey", "Member": "MemberKey", "Property": "ListingKey", "Media": "MediaKey"}
		exists := map[entityevent.Ref]bool{}
		create := func(r listing.Record) {
			ref := entityevent.Ref{Resource: r.Resource, Key: r.Key}
			if exists[ref] {
				t.Fatalf("%v is made twice", ref)
			}
			exists[ref] = true
			if got := entityevent.StringMember(r.Body, keys[r.Resource]); got != r.Key {
				t.Fatalf("%v: its body holds the key %q", ref, got)
			}
			parents := []entityevent.Ref{
				{Resource: "Office", Key: entityevent.StringMember(r.Body, "ListOfficeKey")},
				{Resource: "Member", Key: entityevent.StringMember(r.Body, "ListAgentKey")},
				{Resource: "Property", Key: entityevent.StringMember(r.Body, "ResourceRecordKey")},
			}
			if r.Resource == "Member" {
				parents[0].Key = entityevent.StringMember(r.Body, "OfficeKey")
			}
			for _, parent := range parents {
				if parent.Key != "" && !exists[parent] {
					t.Fatalf("%v comes before its %v", ref, parent)
				}
			}
		}
		homes, bytes := 0, 0
		for r := range m.Records() {
			create(r)
			if r.Resource == "Property" {
				homes, bytes = homes+1, bytes+len(r.Body)
			}
		}
		if len(exists) != size {
			t.Errorf("made up %d records, want %d", len(exists), size)
		}
		if average := bytes / homes; average < 1200 || average > 1600 {
			t.Errorf("a listing takes %d bytes, want about 1400", average)
		}
		for range 2000 {
			for _, c := range m.Next() {
				ref := entityevent.Ref{Resource: c.Resource, Key: c.Key}
				switch c.Op {
				case listing.Create:
					create(c.Record)
				case listing.Remove:
					if !exists[ref] {
						t.Fatalf("removes %v, which does not exist", ref)
					}
					delete(exists, ref)
				case listing.Update:
					if !exists[ref] {
						t.Fatalf("updates %v, which does not exist", ref)
					}
					if _, err := entityevent.Canonicalize(c.Body); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

func TestSameSeedSameMarket(t *testing.T) {
	write := func(seed uint64) []byte {
		var out bytes.Buffer
		m := listing.New(listing.Options{Seed: seed, Records: 100})
		for r := range m.Records() {
			out.Write(r.Body)
		}
		for range 100 {
			for _, c := range m.Next() {
				out.Write(append(c.Body, byte(c.Op)))
			}
		}
		return out.Bytes()
	}
	if !bytes.Equal(write(1), write(1)) {
		t.Error("the same seed made up two different markets")
	}
	if bytes.Equal(write(1), write(2)) {
		t.Error("two seeds made up the same market")
	}
}
