package consumer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The type of a key may change, as that of a schema which the producer infers: the metadata are read again
// when the producer refuses the literals, and then no more than once a minute.
func TestTypeOfKeyChanges(t *testing.T) {
	for _, changed := range [][]string{{"AB1"}, {"AB1", "12", "O'3"}} {
		t.Run(fmt.Sprint(len(changed)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := newSource("log-1/all")
				src.metadata = schemaWith("Edm.Int64")
				src.put("Property", "11", property("11", 1))
				src.put("Property", "12", property("12", 1))
				refused := answer(400, "application/json", `{"error":{"code":"400","message":"no such type"}}`)
				text := false
				f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
					literal := strings.Contains(r.URL.RawQuery, "$filter=ListingKey") || strings.Contains(r.URL.Path, "/Property(")
					switch quoted := strings.Contains(r.URL.RequestURI(), "'"); {
					case literal && quoted != text:
						return refused(r)
					case literal && !quoted: // the source reads text only
						r = r.Clone(r.Context())
						r.URL.Path = strings.NewReplacer("(", "('", ")", "')").Replace(r.URL.Path)
						r.URL.RawPath = r.URL.Path
					}
					return to(src)(r)
				}), "Property")
				catchUp(t, f)
				src.put("Property", "11", property("11", 2))
				catchUp(t, f)
				equal(t, src, f.Store)
				pass(time.Minute)
				text, src.metadata = true, schemaWith("Edm.String")
				for _, key := range changed {
					src.put("Property", key, property(key, 5))
				}
				stop := run(t, f)
				pass(time.Minute)
				equal(t, src, f.Store)
				if s := status(t, f); s.Aside+int(s.Pending) != 0 {
					t.Errorf("%+v", s)
				}
				if n := len(src.asked("$metadata")); n != 2 {
					t.Errorf("the metadata were read %d times", n)
				}
				stop()
			})
		})
	}
}

// Refusals of literals that have another cause do not make us read the metadata all the time.
func TestMetadataAreNotReadForEveryRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 50)
		src.metadata = schemaWith("Edm.String")
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		f = newFeedOn(f.Store, script(to(src), 1e6, "/Property", answer(400, "application/json", `{"error":{"code":"400"}}`)))
		before := len(src.asked("$metadata"))
		stop := run(t, f)
		for i := range 100 {
			key := fmt.Sprintf("P%04d", i%50)
			src.put("Property", key, property(key, 5000+i))
			pass(6 * time.Second)
		}
		if n := len(src.asked("$metadata")) - before; n < 2 || n > 11 {
			t.Errorf("the metadata were read %d times in ten minutes", n)
		}
		stop()
	})
}

func schemaWith(key string) []byte {
	return []byte(`<?xml version="1.0"?><edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="S" xmlns="http://docs.oasis-open.org/odata/ns/edm"><EntityType Name="Property"><Key><PropertyRef Name="ListingKey"/></Key>
<Property Name="ListingKey" Type="` + key + `" Nullable="false"/></EntityType><EntityContainer Name="C"><EntitySet Name="Property" EntityType="S.Property"/>
</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>`)
}
