package producer_test

import (
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// TestTagsOfHiddenFields: an entity tag gives away nothing of what it covers and the client does not see. It serves
// all the same, also after a restart, and those who see everything have the hash of the record.
func TestTagsOfHiddenFields(t *testing.T) {
	t.Parallel()
	const secret = "Authorization: Bearer hidden"
	dir := t.TempDir()
	store := openStore(t, dir)
	s := serve(t, store, nil)
	body := `{"ListingKey":"p1","ListPrice":100,"PrivateRemarks":"4711"}`
	s.put("Property", "p1", body)
	content, err := entityevent.Canonicalize([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	plain := `W/"` + content.Hash.String() + `"`
	if got := s.get("/Property('p1')").header.Get("ETag"); got != plain {
		t.Errorf("who sees everything: %s, want %s", got, plain)
	}
	own := s.get("/Property('p1')", secret).header.Get("ETag")
	for _, target := range []string{"/Property('p1')", "/Property", "/Property?$select=ListPrice"} {
		a := s.get(target, secret)
		if a.want(t, 200); strings.Contains(a.header.Get("ETag")+a.body, content.Hash.String()) || !strings.Contains(a.body, strings.Trim(own, `W/"`)) {
			t.Errorf("%s: %s %s, and the tag is %s", target, a.header.Get("ETag"), a.body, own)
		}
	}
	// A guess does not become a condition either.
	if a := s.get("/Property('p1')", secret, "If-None-Match: "+plain); a.status != 200 {
		t.Errorf("If-None-Match tells that the guess is right: %d", a.status)
	}
	s.get("/Property('p1')", secret, "If-Match: "+plain).want(t, 412)
	s.get("/Property('p1')", secret, "If-Match: "+own).want(t, 200)
	if a := s.get("/Property('p1')", secret, `If-None-Match: "x", `+own); a.status != 304 || a.header.Get("ETag") != own {
		t.Errorf("its own tag: %d %s", a.status, a.header.Get("ETag"))
	}
	if err := s.store.(interface{ Close() error }).Close(); err != nil {
		t.Fatal(err)
	}
	again := serve(t, openStore(t, dir), nil)
	if a := again.get("/Property('p1')", secret, "If-None-Match: "+own); a.status != 304 {
		t.Errorf("after a restart: %d %s, was %s", a.status, a.header.Get("ETag"), own)
	}
	// Who sees something else has another, and so have those to whom more is shown since.
	seen := map[string]bool{plain: true, own: true}
	for _, c := range []producer.Client{
		{Profile: "a"}, {Profile: "b"}, {Profile: "a", Hide: hides}, {Profile: "a", Inline: map[string]string{"Media": ""}},
	} {
		c.Mask, c.Resources = entityevent.Everyone, []string{"Property"}
		again.server.Gate = shownTo{c}
		tag := again.get("/Property('p1')", "Authorization: Bearer portal").header.Get("ETag")
		if seen[tag] || tag == "" {
			t.Errorf("%+v has the tag %s of another", c, tag)
		}
		seen[tag] = true
	}
}

// TestTagsOnAFullDisk: reading needs no disk that can be written.
func TestTagsOnAFullDisk(t *testing.T) {
	t.Parallel()
	store := &fullDisk{Store: openStore(t, t.TempDir())}
	s := serve(t, store, nil)
	s.put("Property", "p1", `{"ListingKey":"p1"}`)
	store.full = true
	tag := s.get("/Property('p1')", "Authorization: Bearer hidden").header.Get("ETag")
	if a := s.get("/Property('p1')", "Authorization: Bearer hidden", "If-None-Match: "+tag); a.status != 304 {
		t.Errorf("%d %s, was %s", a.status, a.header.Get("ETag"), tag)
	}
}
