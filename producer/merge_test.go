package producer_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/resosync/resosync/entityevent/metadata"
)

// TestMergeOfComplexFields: what the object of a complex field does not name stays, at any depth and whoever else writes;
// collections, null and what has no declared type are replaced.
func TestMergeOfComplexFields(t *testing.T) {
	t.Parallel()
	s := configured(t)
	s.do("PUT", "/Property('c')", `{"City":"Ulm","X_Address":{"Lines":["a"],"PostalCode":"1"}}`).want(t, 201)
	patch := func(body string, headers ...string) string {
		return s.do("PATCH", "/Property('c')", body, append(headers, "Prefer: return=representation", bare)...).want(t, 200)
	}
	const begins = `{"ListingKey":"c","City":"Ulm","X_Address":`
	if got := patch(`{"X_Address":{"PostalCode":"2"}}`); got != begins+`{"Lines":["a"],"PostalCode":"2"}}` {
		t.Error(got)
	}
	if got := patch(`{"X_Address":{"Lines":["b","c"]}}`, "If-Match: *"); got != begins+`{"Lines":["b","c"],"PostalCode":"2"}}` {
		t.Error(got)
	}
	tag := s.get("/Property('c')").header.Get("ETag")
	patch(`{"X_Address":{"PostalCode":"3"}}`, "If-Match: "+tag)
	s.do("PATCH", "/Property('c')", `{"X_Address":{"PostalCode":"4"}}`, "If-Match: "+tag).want(t, 412)
	if got := patch(`{"X_Address":null}`); got != begins+"null}" {
		t.Error(got)
	}
	if got := patch(`{"X_Address":{"Lines":["a"]}}`); got != begins+`{"Lines":["a"]}}` {
		t.Error(got)
	}
	s.do("PATCH", "/Property('nobody')", `{"X_Address":{"PostalCode":"4"}}`).want(t, 404)
	var all sync.WaitGroup
	for i := range 48 {
		all.Go(func() {
			body := fmt.Sprintf(`{"X_Address":{"PostalCode":"%d"}}`, i)
			if i%2 == 0 {
				body = fmt.Sprintf(`{"X_Address":{"Lines":["%d"]}}`, i)
			}
			if a, err := s.try(t.Context(), "PATCH", "/Property('c')", body); err != nil || a.status != http.StatusNoContent {
				t.Error(err, a)
			}
		})
	}
	all.Wait()
	if got := s.get("/Property('c')", bare).want(t, 200); !strings.Contains(got, `"Lines":["`) || !strings.Contains(got, `"PostalCode":"`) {
		t.Error(got)
	}

	plain := inferred(t)
	plain.do("PUT", "/Property('c')", `{"X_Address":{"Lines":["a"],"PostalCode":"1"}}`).want(t, 201)
	if got := plain.do("PATCH", "/Property('c')", `{"X_Address":{"PostalCode":"2"}}`, "Prefer: return=representation", bare).want(t, 200); got != `{"ListingKey":"c","X_Address":{"PostalCode":"2"}}` {
		t.Error(got)
	}
}

// TestTagsBelowARecord: the one record to which a navigation leads has its tag there too.
func TestTagsBelowARecord(t *testing.T) {
	t.Parallel()
	s := configured(t)
	listings(s)
	tag := s.get("/Property('p1')/ListOffice").header.Get("ETag")
	s.get("/Property('p1')/ListOffice", "If-None-Match: "+tag).want(t, 304)
	s.get("/Property('p1')/ListOffice", "If-Match: "+tag).want(t, 200)
	s.get("/Property('p1')/ListOffice", `If-Match: "x"`).want(t, 412)
}

// TestMergeDoesNotGrowForEver: a record is at most as large as one that is put.
func TestMergeDoesNotGrowForEver(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	text := strings.Repeat("x", 1500)
	s.do("PUT", "/Property('g')", `{"A":"`+text+`"}`).want(t, 201)
	s.do("PATCH", "/Property('g')", `{"B":"`+text+`"}`).want(t, 204)
	a := s.do("PATCH", "/Property('g')", `{"C":"`+text+`"}`)
	a.want(t, 413)
	checkError(t, a)
	s.do("PATCH", "/Property('g')", `{"B":"`+text+`y"}`).want(t, 204) // replaces
}

// TestHalvesOfCharacters: what is no text is refused, for it would be stored as another.
func TestHalvesOfCharacters(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	for text, status := range map[string]int{
		`\ud800`: 400, `x\uDFFFy`: 400, `\ud83d\ud83d\ude00`: 400, `\ud83dx\ude00`: 400, `\ude00\ud83d`: 400, `\\\ud800`: 400, `\ud83d\n`: 400,
		`\ud83d\ude00`: 201, `\\ud800`: 201, `\\\\ud800`: 201, `\uD7FF\uE000\u0041`: 201, `\"\\`: 201, `😀`: 201,
	} {
		a := s.do("POST", "/Property", `{"City":"`+text+`"}`)
		if a.status != status {
			t.Errorf("%s: %d, want %d: %s", text, a.status, status, a.body)
		}
		if status == 400 {
			checkError(t, a)
		}
	}
	s.do("POST", "/Property", `{"ListingKey":"su\ud800"}`).want(t, 400)
}

// TestKeysOfOtherTypes: a record without its key gets one where the type has room for it, and a wrong key is a wrong field.
func TestKeysOfOtherTypes(t *testing.T) {
	t.Parallel()
	edmx, err := metadata.Read(strings.NewReader(`<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices><Schema Namespace="X" xmlns="http://docs.oasis-open.org/odata/ns/edm">
<EntityType Name="T"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.Guid" Nullable="false"/><Property Name="Is" Type="Collection(Edm.Int64)" Nullable="false"/><Property Name="Ds" Type="Collection(Edm.Decimal)" Nullable="false"/></EntityType>
<EntityContainer Name="C"><EntitySet Name="T" EntityType="X.T"/></EntityContainer></Schema></edmx:DataServices></edmx:Edmx>`))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, openStore(t, t.TempDir()), edmx)
	a := s.do("POST", "/T", `{"Is":["5",6,"-7"],"Ds":["1.50"]}`, "Content-Type: application/json;IEEE754Compatible=true", bare)
	a.want(t, 201)
	key := a.header.Get("EntityId")
	if got := s.get("/T("+key+")", bare).want(t, 200); got != `{"Id":"`+key+`","Is":[5,6,-7],"Ds":[1.50]}` {
		t.Error(got)
	}
	if got := s.get("/T("+key+")", "Accept: application/json;odata.metadata=none;IEEE754Compatible=true").want(t, 200); got != `{"Id":"`+key+`","Is":["5","6","-7"],"Ds":["1.50"]}` {
		t.Error(got)
	}
	plain := inferred(t)
	for _, wrong := range []string{`a\u0000b`, strings.Repeat("x", 256)} {
		a := plain.do("POST", "/Property", `{"ListingKey":"`+wrong+`"}`)
		if a.want(t, 400); !strings.Contains(a.body, `"details":[{"code":"400","target":"ListingKey"`) {
			t.Error(a.body)
		}
	}
}
