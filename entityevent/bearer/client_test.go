package bearer_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
)

func secretOf(t *testing.T, a *bearer.Authority, client string) string {
	t.Helper()
	secret, err := a.NewSecret(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func grant(t *testing.T, a *bearer.Authority, client, secret string, scopes ...string) string {
	t.Helper()
	signed, err := a.Grant(t.Context(), client, secret, scopes)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// What a secret gets is good for fifteen minutes, for what was granted, and leaves nothing in the store.
func TestGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := newAuthority(t)
		secret := secretOf(t, a, "vendor-a")
		if raw, err := hex.DecodeString(secret); err != nil || len(raw) != 32 {
			t.Fatalf("a secret of %d bytes, %v", len(raw), err)
		}
		signed := grant(t, a, "vendor-a", secret, bearer.ScopeRead, bearer.ScopeSubscribe)
		got, err := a.Verify(t.Context(), signed, bearer.API)
		if err != nil || got.Client != "vendor-a" || !slices.Equal(got.Scopes, []string{"read", "subscribe"}) || got.Has(bearer.ScopeWrite) {
			t.Fatalf("%+v, %v", got, err)
		}
		if _, err := a.Verify(t.Context(), signed, bearer.Push("acme")); !errors.Is(err, bearer.ErrAudience) {
			t.Errorf("for pushes: %v", err)
		}
		if tokens, err := a.List(t.Context()); err != nil || len(tokens) != 0 || len(d.all) != 1 {
			t.Errorf("%v tokens and %d documents are stored: %v", tokens, len(d.all), err)
		}
		hash := sha256.Sum256([]byte(secret))
		for _, doc := range d.all {
			if strings.Contains(string(doc.Body), secret) || !strings.Contains(string(doc.Body), hex.EncodeToString(hash[:])) {
				t.Errorf("stored: %s", doc.Body)
			}
		}
		time.Sleep(bearer.GrantLife)
		if _, err := a.Verify(t.Context(), signed, bearer.API); err != nil {
			t.Errorf("at its end: %v", err)
		}
		time.Sleep(time.Minute + time.Second) // the leeway
		if _, err := a.Verify(t.Context(), signed, bearer.API); !errors.Is(err, bearer.ErrUnauthorized) {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestGrantRefuses(t *testing.T) {
	a, d := newAuthority(t)
	secret := secretOf(t, a, "vendor-a")
	hash := sha256.Sum256([]byte(secret))
	for client, given := range map[string]string{
		"vendor-a": strings.Repeat("0", 64), "vendor-b": secret, "": secret, "VENDOR-A": secret, "nobody": "",
	} {
		if signed, err := a.Grant(t.Context(), client, given, nil); !errors.Is(err, bearer.ErrSecret) || signed != "" {
			t.Errorf("%q: %v", client, err)
		}
	}
	// What is stored, and what a client without a secret has, opens nothing.
	for _, given := range []string{"", hex.EncodeToString(hash[:]), strings.Repeat(" ", 64), secret + " ", strings.ToUpper(secret)} {
		for _, client := range []string{"vendor-a", "nobody"} {
			if _, err := a.Grant(t.Context(), client, given, nil); !errors.Is(err, bearer.ErrSecret) {
				t.Errorf("%s with %q: %v", client, given, err)
			}
		}
	}
	d.err = errors.New("disk")
	if _, err := a.Grant(t.Context(), "vendor-a", secret, nil); err == nil || errors.Is(err, bearer.ErrSecret) || strings.Contains(err.Error(), secret) {
		t.Errorf("without a store: %v", err)
	}
}

// A new secret ends the one before and what it got, and nothing of another client.
func TestNewSecretEndsTheOld(t *testing.T) {
	a, _ := newAuthority(t)
	old := secretOf(t, a, "vendor-a")
	theirs := grant(t, a, "vendor-b", secretOf(t, a, "vendor-b"), "read")
	before := grant(t, a, "vendor-a", old, "read")
	issued, _ := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-a"})
	next := secretOf(t, a, "vendor-a")
	if next == old {
		t.Fatal("the same secret again")
	}
	if _, err := a.Grant(t.Context(), "vendor-a", old, nil); !errors.Is(err, bearer.ErrSecret) {
		t.Errorf("the old secret: %v", err)
	}
	if _, err := a.Verify(t.Context(), before, bearer.API); !errors.Is(err, bearer.ErrUnauthorized) {
		t.Errorf("what the old secret got: %v", err)
	}
	for what, signed := range map[string]string{"the new secret's": grant(t, a, "vendor-a", next), "another client's": theirs, "an issued one": issued} {
		if _, err := a.Verify(t.Context(), signed, bearer.API); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestRevokeClient(t *testing.T) {
	a, d := newAuthority(t)
	secret := secretOf(t, a, "vendor-a")
	granted := grant(t, a, "vendor-a", secret, "read")
	one, _ := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-a"})
	two, _ := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-a"})
	push, _ := issue(t, a, bearer.Token{Audience: bearer.Push("vendor-a"), Client: "vendor-a"})
	other, _ := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-b"})
	for _, signed := range []string{granted, one, two} {
		if _, err := a.Verify(t.Context(), signed, bearer.API); err != nil {
			t.Fatal(err)
		}
	}
	// Somebody else writes between the reading and the writing: it is done again.
	conflicts := 1
	a.Store = conflicting{d, &conflicts}
	if n, err := a.RevokeClient(t.Context(), "vendor-a"); n != 2 || err != nil || conflicts != 0 {
		t.Fatalf("%d, %v", n, err)
	}
	for _, signed := range []string{granted, one, two} {
		if _, err := a.Verify(t.Context(), signed, bearer.API); !errors.Is(err, bearer.ErrUnauthorized) {
			t.Errorf("after it: %v", err)
		}
	}
	if _, err := a.Grant(t.Context(), "vendor-a", secret, nil); !errors.Is(err, bearer.ErrSecret) {
		t.Errorf("its secret: %v", err)
	}
	if _, err := a.Verify(t.Context(), push, bearer.Push("vendor-a")); err != nil {
		t.Errorf("a feed of the same name: %v", err)
	}
	if _, err := a.Verify(t.Context(), other, bearer.API); err != nil {
		t.Errorf("another client: %v", err)
	}
	for _, client := range []string{"vendor-a", "nobody"} {
		if _, err := a.RevokeClient(t.Context(), client); !errors.Is(err, bearer.ErrNoClient) {
			t.Errorf("%s: %v", client, err)
		}
	}
	if _, err := a.Verify(t.Context(), grant(t, a, "vendor-a", secretOf(t, a, "vendor-a")), bearer.API); err != nil {
		t.Errorf("with a new secret: %v", err)
	}
}

// conflicting is a store whose next commits conflict.
type conflicting struct {
	*docs
	left *int
}

func (c conflicting) Apply(ctx context.Context, commit entityevent.Commit) ([]entityevent.Outcome, error) {
	if *c.left > 0 {
		*c.left--
		return nil, entityevent.ErrConflict
	}
	return c.docs.Apply(ctx, commit)
}

// A grant is nothing but what Grant makes: our key signs no other, and these are refused all the same.
func TestForgedGrants(t *testing.T) {
	a, _ := newAuthority(t)
	secret := secretOf(t, a, "vendor-a")
	_, issued := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-a"})
	exp := time.Now().Add(time.Hour).Unix()
	for what, text := range map[string]string{
		"no end":              `{"sub":"vendor-a","aud":["api"],"jti":"x","gen":1,"scope":"read"}`,
		"another audience":    fmt.Sprintf(`{"sub":"vendor-a","aud":["push:acme"],"jti":"x","gen":1,"scope":"read","exp":%d}`, exp),
		"two audiences":       fmt.Sprintf(`{"sub":"vendor-a","aud":["api","push:acme"],"jti":"x","gen":1,"exp":%d}`, exp),
		"another generation":  fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":"x","gen":2,"exp":%d}`, exp),
		"a negative one":      fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":"x","gen":-1,"exp":%d}`, exp),
		"no generation":       fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":"x","scope":"read","exp":%d}`, exp),
		"a text":              fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":"x","gen":"1","exp":%d}`, exp),
		"nobody":              fmt.Sprintf(`{"sub":"nobody","aud":["api"],"jti":"x","gen":1,"exp":%d}`, exp),
		"no id":               fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"gen":1,"exp":%d}`, exp),
		"over":                `{"sub":"vendor-a","aud":["api"],"jti":"x","gen":1,"exp":1000000000}`,
		"the id of an issued": fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":%q,"gen":7,"exp":%d}`, issued.ID, exp),
	} {
		if _, err := a.Verify(t.Context(), assemble(ourHeader, text, with(a.Key)), bearer.API); !errors.Is(err, bearer.ErrUnauthorized) {
			t.Errorf("%s: %v", what, err)
		}
	}
	good := fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":"x","gen":1,"scope":"read","exp":%d}`, exp)
	if _, err := a.Verify(t.Context(), assemble(ourHeader, good, with(a.Key)), bearer.API); err != nil {
		t.Errorf("what all of these vary is refused as it is: %v", err)
	}
	if strings.Contains(fmt.Sprint(a.Grant(t.Context(), "vendor-a", secret+"x", nil)), secret) {
		t.Error("an error shows a secret")
	}
}
