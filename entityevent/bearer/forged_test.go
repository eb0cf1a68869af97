package bearer_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
)

// assemble writes a token from the texts of its header and claims, signed by whatever sign is.
func assemble(header, claims string, sign func(text []byte) []byte) string {
	b := base64.RawURLEncoding
	text := b.EncodeToString([]byte(header)) + "." + b.EncodeToString([]byte(claims))
	return text + "." + b.EncodeToString(sign([]byte(text)))
}

// with signs with a key.
func with(key ed25519.PrivateKey) func([]byte) []byte {
	return func(text []byte) []byte { return ed25519.Sign(key, text) }
}

// hs256 signs with a secret.
func hs256(secret []byte) func([]byte) []byte {
	return func(text []byte) []byte {
		m := hmac.New(sha256.New, secret)
		m.Write(text)
		return m.Sum(nil)
	}
}

const ourHeader = `{"alg":"EdDSA","typ":"JWT"}`

// Every trick with the header, the claims and the text of a token: refused the same way, whoever signed,
// with nothing of the token in the error, and the good one stays good.
func TestForgedTokens(t *testing.T) {
	a, _ := newAuthority(t)
	theirs, _ := newAuthority(t)
	good, issued := issue(t, a, bearer.Token{Audience: bearer.API, Client: "vendor-a"})
	claims := fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":%q}`, issued.ID)
	public := a.Key.Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	none := func([]byte) []byte { return nil }
	if _, err := a.Verify(t.Context(), assemble(ourHeader, claims, with(a.Key)), bearer.API); err != nil {
		t.Fatalf("the claims that all of these vary are refused as they are: %v", err)
	}
	jwk, _ := json.Marshal(map[string]string{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(theirs.Key.Public().(ed25519.PublicKey))})

	tokens := map[string]string{
		"alg absent":              assemble(`{"typ":"JWT"}`, claims, with(a.Key)),
		"alg null":                assemble(`{"alg":null,"typ":"JWT"}`, claims, none),
		"alg a number":            assemble(`{"alg":1,"typ":"JWT"}`, claims, with(a.Key)),
		"alg twice":               assemble(`{"alg":"EdDSA","alg":"none","typ":"JWT"}`, claims, none),
		"header null":             assemble(`null`, claims, with(a.Key)),
		"header array":            assemble(`[]`, claims, with(a.Key)),
		"header empty":            assemble(``, claims, with(a.Key)),
		"no typ":                  assemble(`{"alg":"EdDSA"}`, claims, with(a.Key)),
		"another typ":             assemble(`{"alg":"EdDSA","typ":"at+jwt"}`, claims, with(a.Key)),
		"crit":                    assemble(`{"alg":"EdDSA","typ":"JWT","crit":["exp"]}`, claims, with(a.Key)),
		"crit, unknown":           assemble(`{"alg":"EdDSA","typ":"JWT","crit":["b64"],"b64":false}`, claims, with(a.Key)),
		"kid":                     assemble(`{"alg":"EdDSA","typ":"JWT","kid":"../../dev/null"}`, claims, with(a.Key)),
		"jku":                     assemble(`{"alg":"EdDSA","typ":"JWT","jku":"https://evil.example/keys"}`, claims, with(theirs.Key)),
		"x5u":                     assemble(`{"alg":"EdDSA","typ":"JWT","x5u":"https://evil.example/cert"}`, claims, with(theirs.Key)),
		"jwk of theirs":           assemble(`{"alg":"EdDSA","typ":"JWT","jwk":`+string(jwk)+`}`, claims, with(theirs.Key)),
		"their key":               assemble(ourHeader, claims, with(theirs.Key)),
		"zip":                     assemble(`{"alg":"EdDSA","typ":"JWT","zip":"DEF"}`, claims, with(a.Key)),
		"cty":                     assemble(`{"alg":"EdDSA","typ":"JWT","cty":"JWT"}`, claims, with(a.Key)),
		"no jti":                  assemble(ourHeader, `{"sub":"vendor-a","aud":["api"]}`, with(a.Key)),
		"jti empty":               assemble(ourHeader, `{"sub":"vendor-a","aud":["api"],"jti":""}`, with(a.Key)),
		"jti null":                assemble(ourHeader, `{"sub":"vendor-a","aud":["api"],"jti":null}`, with(a.Key)),
		"jti a number":            assemble(ourHeader, `{"sub":"vendor-a","aud":["api"],"jti":1}`, with(a.Key)),
		"jti unknown":             assemble(ourHeader, `{"sub":"vendor-a","aud":["api"],"jti":"x"}`, with(a.Key)),
		"no audience":             assemble(ourHeader, fmt.Sprintf(`{"sub":"vendor-a","jti":%q}`, issued.ID), with(a.Key)),
		"two audiences":           assemble(ourHeader, fmt.Sprintf(`{"sub":"vendor-a","aud":["api","push:mls"],"jti":%q}`, issued.ID), with(a.Key)),
		"expired long ago":        assemble(ourHeader, fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":%q,"exp":1}`, issued.ID), with(a.Key)),
		"exp negative":            assemble(ourHeader, fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":%q,"exp":-1}`, issued.ID), with(a.Key)),
		"exp a string":            assemble(ourHeader, fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":%q,"exp":"never"}`, issued.ID), with(a.Key)),
		"nbf far ahead":           assemble(ourHeader, fmt.Sprintf(`{"sub":"vendor-a","aud":["api"],"jti":%q,"nbf":99999999999}`, issued.ID), with(a.Key)),
		"claims no JSON":          assemble(ourHeader, `{"jti"`, with(a.Key)),
		"claims empty":            assemble(ourHeader, ``, with(a.Key)),
		"claims null":             assemble(ourHeader, `null`, with(a.Key)),
		"signature of nothing":    assemble(ourHeader, claims, none),
		"signature of its hash":   assemble(ourHeader, claims, func(text []byte) []byte { h := sha256.Sum256(text); return ed25519.Sign(a.Key, h[:]) }),
		"a byte more":             assemble(ourHeader, claims, func(text []byte) []byte { return append(ed25519.Sign(a.Key, text), 0) }),
		"padded":                  good + "==",
		"space before":            " " + good,
		"space after":             good + " ",
		"line end":                good + "\n",
		"line end inside":         good[:20] + "\n" + good[20:],
		"zero":                    good + "\x00",
		"four parts":              good + ".",
		"standard alphabet":       strings.NewReplacer("-", "+", "_", "/").Replace(good) + "+",
		"signature not minimal":   good[:len(good)-1] + next(good[len(good)-1]),
		"HS256, the raw key":      assemble(`{"alg":"HS256","typ":"JWT"}`, claims, hs256(public)),
		"HS256, the key in DER":   assemble(`{"alg":"HS256","typ":"JWT"}`, claims, hs256(der)),
		"HS256, the key in PEM":   assemble(`{"alg":"HS256","typ":"JWT"}`, claims, hs256(block)),
		"HS256, trimmed PEM":      assemble(`{"alg":"HS256","typ":"JWT"}`, claims, hs256(bytes.TrimSpace(block))),
		"EdDSA, but a HMAC":       assemble(ourHeader, claims, hs256(public)),
		"ES256":                   assemble(`{"alg":"ES256","typ":"JWT"}`, claims, with(a.Key)),
		"ed25519 by its new name": assemble(`{"alg":"Ed25519","typ":"JWT"}`, claims, with(a.Key)),
	}
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "none ", "", "HS384", "RS256", "PS512", "eddsa"} {
		tokens["alg "+alg] = assemble(fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, alg), claims, none)
		tokens["alg signed "+alg] = assemble(fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, alg), claims, with(a.Key))
	}
	for n := range len(good) {
		tokens[fmt.Sprint("cut at ", n)] = good[:n]
		changed := []byte(good)
		changed[n] ^= 1
		tokens[fmt.Sprint("another bit at ", n)] = string(changed)
	}
	for name, signed := range tokens {
		for range 2 { // the second time nothing was remembered that should not be
			got, err := a.Verify(t.Context(), signed, bearer.API)
			if !errors.Is(err, bearer.ErrUnauthorized) || got.ID != "" {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			for _, part := range strings.Split(signed, ".") {
				if len(part) > 12 && err != nil && strings.Contains(err.Error(), part[:12]) {
					t.Errorf("%s: the error repeats the token", name)
				}
			}
		}
		if _, err := a.Verify(t.Context(), good, bearer.API); err != nil {
			t.Fatalf("after %s the good one: %v", name, err)
		}
	}
}

// next is the next character of the alphabet: at the end of a signature it differs in bits that stand for
// nothing.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[(strings.IndexByte(alphabet, c)+1)%64])
}

// The leeway is a minute at both ends, to the nanosecond, whether the signature was seen before or not.
func TestLeewayAtBothEdges(t *testing.T) {
	for _, known := range []bool{false, true} {
		for edge, c := range map[string]struct {
			claim  string
			offset time.Duration // from what the claim says
			want   error
		}{
			"last moment":  {"exp", time.Minute - 1, nil},
			"expired":      {"exp", time.Minute, bearer.ErrUnauthorized},
			"too early":    {"nbf", -time.Minute - 1, bearer.ErrUnauthorized},
			"first moment": {"nbf", -time.Minute, nil},
		} {
			synctest.Test(t, func(t *testing.T) {
				a, _ := newAuthority(t)
				_, issued := issue(t, a, bearer.Token{Audience: bearer.API, Client: "c"})
				at := time.Now().Add(time.Hour)
				signed := assemble(ourHeader, fmt.Sprintf(`{"sub":"c","aud":["api"],"jti":%q,%q:%d}`, issued.ID, c.claim, at.Unix()), with(a.Key))
				if known {
					_, _ = a.Verify(t.Context(), signed, bearer.API)
				}
				time.Sleep(time.Until(at.Add(c.offset)))
				if _, err := a.Verify(t.Context(), signed, bearer.API); !errors.Is(err, c.want) {
					t.Errorf("%s, known %v: %v, want %v", edge, known, err, c.want)
				}
			})
		}
	}
}

// What is revoked is refused with the next request, whatever was remembered of it.
func TestRevokedAtOnce(t *testing.T) {
	a, _ := newAuthority(t)
	other := &bearer.Authority{Key: a.Key, Store: a.Store} // as the command does it
	for range 20 {
		signed, issued := issue(t, a, bearer.Token{Audience: bearer.Push("mls"), Client: "c"})
		if _, err := a.Verify(t.Context(), signed, bearer.Push("mls")); err != nil {
			t.Fatal(err)
		}
		if err := other.Revoke(t.Context(), issued.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Verify(t.Context(), signed, bearer.Push("mls")); !errors.Is(err, bearer.ErrUnauthorized) {
			t.Fatalf("%v", err)
		}
		// Of one that is revoked nobody learns for whom it was.
		if _, err := a.Verify(t.Context(), signed, bearer.Push("other")); !errors.Is(err, bearer.ErrUnauthorized) {
			t.Fatalf("%v", err)
		}
	}
}

// Nothing but the text that was issued is accepted, whatever it is signed with.
func FuzzVerify(f *testing.F) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	a := &bearer.Authority{Key: key, Store: &docs{all: map[[2]string]entityevent.Doc{}}}
	good, _, err := a.Issue(f.Context(), bearer.Token{ID: "one", Audience: bearer.API, Client: "c", Created: time.Unix(1_700_000_000, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	for _, header := range []string{ourHeader, `{"alg":"none"}`, `{"alg":"HS256","typ":"JWT"}`, `{"alg":"EdDSA","typ":"JWT","crit":["exp"]}`} {
		for _, claims := range []string{`{}`, `{"jti":"one"}`, `{"jti":"one","aud":"api","exp":1e400}`, `{"jti":["one"]}`, `{"jti":"one","exp":{}}`} {
			f.Add(assemble(header, claims, with(key)))
		}
	}
	f.Fuzz(func(t *testing.T, signed string) {
		_, err := a.Verify(t.Context(), signed, bearer.API)
		if signed == good && err != nil || signed != good && !errors.Is(err, bearer.ErrUnauthorized) {
			t.Fatalf("%q: %v", signed, err)
		}
	})
}

// Whatever the claims are, under our signature: one outcome, no panic, and what is accepted is what was
// issued.
func FuzzClaims(f *testing.F) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	a := &bearer.Authority{Key: key, Store: &docs{all: map[[2]string]entityevent.Doc{}}}
	if _, _, err := a.Issue(f.Context(), bearer.Token{ID: "one", Audience: bearer.API, Client: "c"}); err != nil {
		f.Fatal(err)
	}
	f.Add(ourHeader, `{"jti":"one","sub":"c","aud":"api"}`)
	f.Add(ourHeader, `{"jti":"one","sub":"c","aud":["api"],"exp":1e308,"nbf":-1,"iat":0.5}`)
	f.Add(`{"alg":"EdDSA","typ":"JWT","crit":[]}`, `{"jti":"one","sub":"c","aud":["api"]}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		token, err := a.Verify(t.Context(), assemble(header, claims, with(key)), bearer.API)
		if err == nil && (token.ID != "one" || token.Client != "c") || err != nil && !errors.Is(err, bearer.ErrUnauthorized) {
			t.Fatalf("%q %q: %+v, %v", header, claims, token, err)
		}
	})
}

// An Authorization header gives one token without white space around it, or none.
func FuzzFromHeader(f *testing.F) {
	for _, value := range []string{"Bearer abc", "bearer  abc ", "Bearer\tabc", "Basic abc", "Bearer", "Bearer a, Bearer b", "\xff", "Bearer \x00"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		token := bearer.FromHeader(http.Header{"Authorization": {value}})
		if token != strings.TrimSpace(token) || token != "" && (!strings.EqualFold(value[:7], "Bearer ") || !strings.Contains(value, token)) {
			t.Fatalf("%q gives %q", value, token)
		}
	})
}
