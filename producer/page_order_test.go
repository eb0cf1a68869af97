package producer_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestWalkKeepsItsOrder follows nextLinks by a field of an inferred type, which widens meanwhile: what stays as it is is
// met exactly once, also below a record.
func TestWalkKeepsItsOrder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		value func(i int) string
		odd   []string
	}{
		"date":    {func(i int) string { return fmt.Sprintf(`"2026-01-0%d"`, i) }, []string{`""`, `"2026-01-05T00:00:00Z"`, "7", "null", "[1]"}},
		"instant": {func(i int) string { return fmt.Sprintf(`"2026-01-0%dT00:00:00.%dZ"`, i, i) }, []string{`""`, `"2026-01-05"`, "true", "{}"}},
		"integer": {func(i int) string { return fmt.Sprint(i) }, []string{"1.5", `"x"`, "null"}},
		"decimal": {func(i int) string { return fmt.Sprintf("%d.5", i) }, []string{"3", `"5"`}},
		"boolean": {func(i int) string { return fmt.Sprint(i > 4) }, []string{"1", `"true"`}},
		"text":    {func(i int) string { return fmt.Sprintf(`"x%d"`, i) }, []string{`"2026-01-01"`, "7"}},
		"nothing": {func(int) string { return "null" }, []string{"7", `"x"`}},
	} {
		for _, target := range []string{"/Media?$orderby=F", "/Media?$orderby=F desc", "/Property('p')/Media?$orderby=F", "/Property('p')/Media?$orderby=F desc,MediaKey"} {
			s := inferred(t)
			media := func(key, value string) {
				s.put("Media", key, fmt.Sprintf(`{"MediaKey":"%s","ResourceName":"Property","ResourceRecordKey":"p","F":%s}`, key, value))
			}
			s.put("Property", "p", `{"ListingKey":"p"}`)
			for i := 1; i <= 9; i++ {
				media(fmt.Sprint("k", i), c.value(i))
			}
			s.get("/$metadata").want(t, 200)
			seen := map[string]int{}
			page := s.get(target+"&$select=MediaKey", "Prefer: maxpagesize=2").page(t)
			for n := range 20 {
				for _, v := range page.Value {
					seen[strings.Trim(string(v["MediaKey"]), `"`)]++
				}
				if page.Next == "" {
					break
				}
				if n < len(c.odd) {
					media(fmt.Sprint("odd", n), c.odd[n])
					s.get("/$metadata").want(t, 200)
				}
				page = s.get(below(t, page.Next)).page(t)
			}
			for i := 1; i <= 9; i++ {
				if n := seen[fmt.Sprint("k", i)]; n != 1 {
					t.Errorf("%s, %s: k%d was met %d times", name, target, i, n)
				}
			}
		}
	}
}

// TestWalkByLongTexts: a place is short, however long the values of the order are, and all is met once.
func TestWalkByLongTexts(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	long := strings.Repeat("ü<\u0001", 8000)
	for i, value := range []string{"a", long, long + "b", long + "a", "ü", strings.Repeat("x", 999) + "ü", strings.Repeat("x", 1000)} {
		s.put("Queue", fmt.Sprint("k", i), fmt.Sprintf(`{"QueueTransactionKey":"k%d","R":%s}`, i, quotedText(value)))
	}
	for order, want := range map[string]string{"R": "k0 k6 k5 k4 k1 k2 k3", "R desc": "k3 k2 k1 k4 k5 k6 k0"} {
		var got []string
		for target := "/Queue?$select=QueueTransactionKey&$orderby=" + order; target != "" && len(got) < 20; {
			page := s.get(target, "Prefer: maxpagesize=1").page(t)
			got = append(got, page.column("QueueTransactionKey"))
			if target = ""; page.Next != "" {
				target = below(t, page.Next)
			}
			if len(page.Next) > 6000 {
				t.Errorf("a nextLink of %d bytes", len(page.Next))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s", order, got)
		}
	}
}

func quotedText(text string) string {
	b, _ := json.Marshal(text) // of a string
	return string(b)
}

// TestNextLinkIsNoLonger: blanks that were written as + are so in the nextLink.
func TestNextLinkIsNoLonger(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	s.putMany("Media", "MediaKey", "a+b", "c", "d")
	const query = "/Media?$filter=MediaKey+in+('a%2Bb',+'c',+'d')"
	next := s.get(query, "Prefer: maxpagesize=1").page(t).Next
	if !strings.HasPrefix(next, root+query+"&") {
		t.Error(next)
	}
	if got := s.get(below(t, next)).page(t).column("MediaKey"); got != "c" && got != "c d" {
		t.Error(got)
	}
}
