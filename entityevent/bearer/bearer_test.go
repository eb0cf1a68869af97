package bearer_test

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
)

// docs is a store of documents in memory.
type docs struct {
	mu   sync.Mutex
	all  map[[2]string]entityevent.Doc // by kind and id
	gets int
	err  error
}

func (d *docs) Get(_ context.Context, kind, id string) (entityevent.Doc, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gets++
	return d.all[[2]string{kind, id}], d.err
}

func (d *docs) List(_ context.Context, kind string) ([]entityevent.Doc, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []entityevent.Doc
	for _, doc := range d.all {
		if doc.Kind == kind {
			list = append(list, doc)
		}
	}
	slices.SortFunc(list, func(a, b entityevent.Doc) int { return cmp.Compare(a.ID, b.ID) })
	return list, d.err
}

func (d *docs) Apply(_ context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, doc := range c.Docs {
		if d.all[[2]string{doc.Kind, doc.ID}].Version != doc.Version {
			return nil, entityevent.ErrConflict
		}
	}
	for _, doc := range c.Docs {
		doc.Version++
		d.all[[2]string{doc.Kind, doc.ID}] = doc
	}
	return nil, d.err
}

func newAuthority(t *testing.T) (*bearer.Authority, *docs) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := &docs{all: map[[2]string]entityevent.Doc{}}
	return &bearer.Authority{Key: key, Store: d}, d
}

func issue(t *testing.T, a *bearer.Authority, token bearer.Token) (string, bearer.Token) {
	t.Helper()
	signed, issued, err := a.Issue(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return signed, issued
}

func TestVerify(t *testing.T) {
	a, d := newAuthority(t)
	signed, issued := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-a", Scopes: []string{bearer.ScopeRead}})
	for range 3 {
		got, err := a.Verify(t.Context(), signed, bearer.API)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != issued.ID || got.Client != "vendor-a" || !got.Has(bearer.ScopeRead) || got.Has(bearer.ScopeWrite) {
			t.Fatalf("%+v", got)
		}
	}
	if d.gets != 3 {
		t.Fatalf("the document was read %d times, want each time", d.gets)
	}
	if _, err := a.Verify(t.Context(), signed, bearer.Push("acme")); !errors.Is(err, bearer.ErrAudience) {
		t.Fatalf("%v, want ErrAudience", err)
	}
	push, _ := issue(t, a, bearer.Token{Audience: bearer.Push("acme"), Client: "acme"})
	for audience, want := range map[string]error{bearer.Push("acme"): nil, bearer.Push("other"): bearer.ErrAudience, bearer.API: bearer.ErrAudience, "": bearer.ErrAudience} {
		if _, err := a.Verify(t.Context(), push, audience); !errors.Is(err, want) {
			t.Fatalf("%q: %v, want %v", audience, err, want)
		}
	}
}

// TestClockSetBack asks at a time before the token was made, as a clock that was set back makes it.
func TestClockSetBack(t *testing.T) {
	a, _ := newAuthority(t)
	early, _ := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-a", Created: time.Now().Add(time.Hour)})
	if _, err := a.Verify(t.Context(), early, bearer.API); err != nil {
		t.Error(err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	a, _ := newAuthority(t)
	other, _ := newAuthority(t)
	now := time.Now()
	good, issued := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-a"})
	foreign, _ := issue(t, other, bearer.Token{Audience: bearer.API, Client: "vendor-a"})
	expired, _ := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-a", Expires: now.Add(-2 * time.Minute)})
	revoked, r := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-a"})
	if _, err := a.Verify(t.Context(), revoked, bearer.API); err != nil {
		t.Fatal(err) // its signature is remembered now
	}
	if err := a.Revoke(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}

	claims := func(id, audience, client string) jwt.RegisteredClaims {
		return jwt.RegisteredClaims{ID: id, Audience: jwt.ClaimStrings{audience}, Subject: client}
	}
	sign := func(m jwt.SigningMethod, c jwt.Claims, key any) string {
		signed, err := jwt.NewWithClaims(m, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	public := a.Key.Public().(ed25519.PublicKey)
	mine := claims(issued.ID, bearer.API, "vendor-a")
	parts := strings.Split(good, ".")
	for name, signed := range map[string]string{
		"empty":                            "",
		"garbage":                          "garbage",
		"dots":                             "..",
		"not UTF-8":                        "\xff.\xfe.\xfd",
		"1 MB":                             strings.Repeat("a", 1<<20),
		"1 MB with dots":                   strings.Repeat("a.", 1<<19),
		"another agent's":                  foreign,
		"other claims":                     parts[0] + "." + strings.Split(foreign, ".")[1] + "." + parts[2],
		"signature cut":                    parts[0] + "." + parts[1] + ".",
		"signature zero":                   parts[0] + "." + parts[1] + "." + strings.Repeat("A", 86),
		"one character changed":            parts[0] + "." + parts[1] + "." + swapFirst(parts[2]),
		"alg none":                         sign(jwt.SigningMethodNone, mine, jwt.UnsafeAllowNoneSignatureType),
		"HS256, the public key":            sign(jwt.SigningMethodHS256, mine, []byte(public)),
		"HS256, empty key":                 sign(jwt.SigningMethodHS256, mine, []byte{}),
		"expired":                          expired,
		"revoked":                          revoked,
		"unknown jti":                      sign(jwt.SigningMethodEdDSA, claims("no-such-id", bearer.API, "vendor-a"), a.Key),
		"no jti":                           sign(jwt.SigningMethodEdDSA, claims("", bearer.API, "vendor-a"), a.Key),
		"another audience than was issued": sign(jwt.SigningMethodEdDSA, claims(issued.ID, bearer.Push("acme"), "vendor-a"), a.Key),
		"another client than was issued":   sign(jwt.SigningMethodEdDSA, claims(issued.ID, bearer.API, "vendor-b"), a.Key),
	} {
		for range 2 { // the second time nothing was remembered that should not be
			got, err := a.Verify(t.Context(), signed, bearer.API)
			if !errors.Is(err, bearer.ErrUnauthorized) || got.ID != "" {
				t.Errorf("%s: %+v, %v; want ErrUnauthorized", name, got, err)
			}
			if len(signed) > 20 && err != nil && strings.Contains(err.Error(), signed[:20]) {
				t.Errorf("%s: the error repeats the token", name)
			}
		}
	}
	if _, err := a.Verify(t.Context(), good, bearer.API); err != nil {
		t.Fatalf("the good one: %v", err)
	}
}

func swapFirst(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

func TestVerifyFollowsTheClock(t *testing.T) {
	a, _ := newAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		signed, _ := issue(t, a, bearer.Token{Audience: bearer.API, Client: "c", Expires: time.Now().Add(time.Hour)})
		for _, step := range []struct {
			wait time.Duration
			want error
		}{{0, nil}, {time.Hour + 30*time.Second, nil}, {time.Minute, bearer.ErrUnauthorized}} {
			time.Sleep(step.wait) // the bubble's clock
			if _, err := a.Verify(t.Context(), signed, bearer.API); !errors.Is(err, step.want) {
				t.Fatalf("%v later: %v, want %v", step.wait, err, step.want)
			}
		}
	})
}

func TestVerifyWithoutStore(t *testing.T) {
	a, d := newAuthority(t)
	signed, _ := issue(t, a, bearer.Token{Audience: bearer.API, Client: "c"})
	d.err = errors.New("disk full")
	if _, err := a.Verify(t.Context(), signed, bearer.API); !errors.Is(err, d.err) || errors.Is(err, bearer.ErrUnauthorized) {
		t.Fatalf("%v, want the store's error: nothing is known about the token", err)
	}
	if signed, _, err := a.Issue(t.Context(), bearer.Token{Audience: bearer.API}); !errors.Is(err, d.err) || signed != "" {
		t.Fatalf("%q, %v: a token was given out that is not stored", signed, err)
	}
}

func TestIssueRefuses(t *testing.T) {
	a, d := newAuthority(t)
	for _, token := range []bearer.Token{
		{}, {Audience: "push:"}, {Audience: "admin"},
		{Audience: bearer.API, Scopes: []string{"root"}},
		{Audience: bearer.API, Client: strings.Repeat("x", 4096)},
	} {
		if _, _, err := a.Issue(t.Context(), token); err == nil {
			t.Errorf("%.40v was issued", token)
		}
	}
	if len(d.all) != 0 {
		t.Fatalf("%d documents were stored", len(d.all))
	}
	_, first := issue(t, a, bearer.Token{ID: "one", Audience: bearer.API, Client: "a"})
	if _, _, err := a.Issue(t.Context(), bearer.Token{ID: "one", Audience: bearer.API, Client: "b"}); !errors.Is(err, entityevent.ErrConflict) {
		t.Fatalf("%v, want ErrConflict", err)
	}
	if list, err := a.List(t.Context()); err != nil || len(list) != 1 || list[0].Client != first.Client {
		t.Fatalf("%v, %v", list, err)
	}
}

func TestRevoke(t *testing.T) {
	a, _ := newAuthority(t)
	_, issued := issue(t, a, bearer.Token{Audience: bearer.API, Client: "a"})
	if err := a.Revoke(t.Context(), "nobody"); !errors.Is(err, bearer.ErrNoToken) {
		t.Fatalf("%v, want ErrNoToken", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := a.Revoke(t.Context(), issued.ID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if list, err := a.List(t.Context()); err != nil || list[0].Revoked.IsZero() {
		t.Fatalf("%v, %v", list, err)
	}
}

// More tokens than are remembered, by several goroutines: each stays good.
func TestVerifyMany(t *testing.T) {
	a, _ := newAuthority(t)
	tokens := make([]string, 1100)
	for i := range tokens {
		tokens[i], _ = issue(t, a, bearer.Token{Audience: bearer.API, Client: "c"})
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, signed := range tokens {
				if _, err := a.Verify(t.Context(), signed, bearer.API); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestFromHeader(t *testing.T) {
	for value, want := range map[string]string{
		"Bearer abc": "abc", "bearer abc": "abc", "BEARER  abc ": "abc",
		"Basic abc": "", "Bearer": "", "Bearer ": "", "abc": "", "": "",
	} {
		if got := bearer.FromHeader(http.Header{"Authorization": {value}}); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
	if got := bearer.FromHeader(http.Header{"Authorization": {"Bearer a", "Bearer b"}}); got != "" {
		t.Errorf("two headers: %q", got)
	}
	if got := bearer.FromHeader(nil); got != "" {
		t.Errorf("no header: %q", got)
	}
}

// With another key a token is not accepted, and the list says so.
func TestListWithAnotherKey(t *testing.T) {
	a, d := newAuthority(t)
	signed, _ := issue(t, a, bearer.Token{Audience: bearer.API, Client: "old"})
	other, _ := newAuthority(t)
	other.Store = d
	issue(t, other, bearer.Token{Audience: bearer.API, Client: "new", Foreign: true})
	if _, err := other.Verify(t.Context(), signed, bearer.API); !errors.Is(err, bearer.ErrUnauthorized) {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		by      *bearer.Authority
		foreign map[string]bool
	}{"the old key": {a, map[string]bool{"old": false, "new": true}}, "the new key": {other, map[string]bool{"old": true, "new": false}}} {
		list, err := c.by.List(t.Context())
		if err != nil || len(list) != 2 {
			t.Fatal(list, err)
		}
		for _, token := range list {
			if token.Foreign != c.foreign[token.Client] {
				t.Errorf("%s: %s is foreign: %v", name, token.Client, token.Foreign)
			}
		}
	}
}
