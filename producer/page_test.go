package producer_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
)

// TestNextLinkKeepsWhatWasAsked: the link is absolute, percent-encoded, and the same question from another
// place on.
func TestNextLinkKeepsWhatWasAsked(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	for i := range 6 {
		s.put("Property", fmt.Sprintf("k%d", i), fmt.Sprintf(`{"ListingKey":"k%d","City":"Köln & Söhne","N":%d}`, i, 5-i))
	}
	const query = "$FILTER=City eq 'Köln %26 Söhne'&$orderby=N desc&$select=ListingKey,N&$count=true&$format=json&x=1&$skip=1&$top=4"
	first := s.get("/Property?"+query, "Prefer: odata.maxpagesize=2")
	page := first.page(t)
	const want = root + "/Property?$FILTER=City%20eq%20'K%C3%B6ln%20%26%20S%C3%B6hne'&$orderby=N%20desc&$select=ListingKey,N&$count=true&$format=json&$top=2&$skiptoken="
	if !strings.HasPrefix(page.Next, want) || page.column("N") != "4 3" || *page.Count != 6 || first.header.Get("Preference-Applied") != "odata.maxpagesize=2" {
		t.Fatalf("%s %v", first.body, first.header)
	}
	page = s.get(below(t, page.Next)).page(t)
	if page.column("N") != "2 1" || page.Next != "" || *page.Count != 6 {
		t.Errorf("%+v", page)
	}
	if a := s.get("/Property?$top=2", "Prefer: maxpagesize=5"); a.header.Get("Preference-Applied") != "maxpagesize=5" || a.page(t).Next != "" {
		t.Errorf("%s %v", a.body, a.header)
	}
	for _, target := range []string{"/Property?$top=6", "/Property?$top=1", "/Property?$top=0", "/Property", "/Property?$skip=6"} {
		if next := s.get(target).page(t).Next; next != "" {
			t.Errorf("%s: %s", target, next)
		}
	}
}

// TestTokens: a $skiptoken is ours, whole, and of the same query, or it is refused.
func TestTokens(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	s.putMany("Property", "ListingKey", "a", "b", "c")
	s.putMany("Media", "MediaKey", "a", "b", "c")
	_, token, _ := strings.Cut(s.get("/Property?$orderby=ListingKey", "Prefer: maxpagesize=1").page(t).Next, "$skiptoken=")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	s.get("/Property?$orderby=ListingKey&$select=ListingKey&$count=true&$top=1&$skiptoken="+token).want(t, 200)
	refused := func(target string) {
		t.Helper()
		a := s.get(target)
		if checkError(t, a); a.status != 400 || !strings.Contains(a.body, `"target":"$skiptoken"`) {
			t.Errorf("%s: %d %s", target, a.status, a.body)
		}
	}
	for i := range raw {
		other := append([]byte(nil), raw...)
		other[i] ^= 4
		refused("/Property?$orderby=ListingKey&$skiptoken=" + base64.RawURLEncoding.EncodeToString(other))
		refused("/Property?$orderby=ListingKey&$skiptoken=" + base64.RawURLEncoding.EncodeToString(raw[:i]))
	}
	for _, target := range []string{
		"/Property?$skiptoken=" + token, "/Property?$orderby=ListingKey desc&$skiptoken=" + token, "/Property?$orderby=ListingKey&$filter=ListingKey gt 'a'&$skiptoken=" + token,
		"/Media?$orderby=MediaKey&$skiptoken=" + token, "/Property?$skiptoken=", "/Property?$skiptoken=10.a", "/Property?$orderby=ListingKey&$skiptoken=" + token + "=", "/EntityEvent?$skiptoken=" + token,
		"/Property('a')/Media?$skiptoken=" + token,
	} {
		refused(target)
	}
	_, token, _ = strings.Cut(s.get("/Property", "Prefer: maxpagesize=1").page(t).Next, "$skiptoken=")
	s.get("/Property?$skiptoken="+token).want(t, 200)
	refused("/Media?$skiptoken=" + token)
	refused("/Property('a')/Media?$skiptoken=" + token)
}

// TestWalksWhileRecordsChange follows nextLinks in several orders, over values that many records share and
// many lack, while other records come, change and go: what stays as it is is met exactly once.
func TestWalksWhileRecordsChange(t *testing.T) {
	t.Parallel()
	const staying = 120
	for _, order := range []string{"", "City", "City desc,N", "N desc", "ModificationTimestamp,ListingKey desc", "ListingKey desc", "InternetEntireListingDisplayYN desc,City,N desc", "D,ListingKey", "X"} {
		s := inferred(t)
		random := rand.New(rand.NewPCG(1, 2))
		body := func(key string) string {
			fields := []string{`"ListingKey":"` + key + `"`}
			add := func(name string, values ...string) {
				if v := values[random.IntN(len(values))]; v != "" {
					fields = append(fields, `"`+name+`":`+v)
				}
			}
			add("City", `"Ulm"`, `"Köln"`, `"\u0041"`, `""`, "null", "", `"a'b"`)
			add("N", "1", "2", "-1", "9007199254740993", "null", "")
			add("X", "1.5", "2", "1e2", "-0.1", "")
			add("InternetEntireListingDisplayYN", "true", "false", "")
			add("D", `"2026-01-01"`, `"2025-12-31"`, "")
			add("ModificationTimestamp", `"2026-01-01T00:00:00Z"`, `"2026-01-01T01:00:00+01:00"`, `"2026-01-01T00:00:00.000001Z"`, `"2025-01-01T00:00:00.5Z"`, "")
			return "{" + strings.Join(fields, ",") + "}"
		}
		key := func(n int) string { return fmt.Sprintf("%03d", n) }
		for i := range staying {
			s.put("Property", key(i*3), body(key(i*3)))
		}
		seen := map[string]int{}
		pages := 0
		target := "/Property?$select=ListingKey"
		if order != "" {
			target += "&$orderby=" + order
		}
		for ; target != "" && pages < 100; pages++ {
			page := s.get(target, "Prefer: maxpagesize=7").page(t)
			for _, v := range page.Value {
				seen[strings.Trim(string(v["ListingKey"]), `"`)]++
			}
			if target = ""; page.Next != "" {
				target = below(t, page.Next)
			}
			for range 4 {
				other := key(random.IntN(staying)*3 + 1)
				s.put("Property", other, body(other))
				s.do("DELETE", "/Property('"+key(random.IntN(staying)*3+1)+"')", "")
			}
		}
		if pages < staying/7 {
			t.Errorf("%q: %d pages", order, pages)
		}
		for i := range staying {
			if n := seen[key(i*3)]; n != 1 {
				t.Errorf("%q: %s was met %d times", order, key(i*3), n)
			}
		}
	}
}

// TestSkip: in any order, over chunks of the store, and not beyond a limit.
func TestSkip(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	put(t, s.store, entityevent.Local, 700)
	all := s.get("/Property?$top=700&$select=ListingKey").page(t)
	for _, skip := range []int{0, 1, 255, 256, 600, 699, 700, 5001, 100_000} {
		page := s.get(fmt.Sprintf("/Property?$select=ListingKey&$skip=%d&$top=3", skip)).page(t)
		want := collection{Value: all.Value[min(skip, 700):min(skip+3, 700)]}.column("ListingKey")
		if got := page.column("ListingKey"); got != want {
			t.Errorf("skip %d: %s, want %s", skip, got, want)
		}
	}
}
