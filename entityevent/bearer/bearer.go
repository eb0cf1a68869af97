// Package bearer issues and verifies the tokens with which clients read a producer and producers push
// to a consumer: JWTs signed with Ed25519, and no other algorithm.
//
// It promises that a token is good for one audience only, that the document stored under its jti, or of a
// token that a client got for its secret that of the client, has the last word, so that a revoked token
// stops working with the next request, and that neither a token nor a secret ever appears in an error.
//
// How long a refusal takes tells nothing that helps to forge a token or to guess a secret. What a signature
// is checked with is the public key, and a token that was seen before is found by its hash, of which nobody
// can choose the beginning bit by bit. The jti is read only from what our key has signed. Whatever admits
// by a secret compares it with subtle.ConstantTimeCompare.
package bearer

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/resosync/resosync/entityevent"
)

// What a token of the audience API may do. Each is independent of the others.
const (
	ScopeRead      = "read"
	ScopeWrite     = "write"
	ScopeSubscribe = "subscribe"
	ScopeAdmin     = "admin"
)

// API is the audience of tokens for everything but pushes.
const API = "api"

// Push returns the audience of tokens for pushes to a feed.
func Push(feed string) string { return "push:" + feed }

var (
	// ErrUnauthorized means a token that is forged, of another agent, expired, not yet valid, unknown here, or revoked.
	ErrUnauthorized = errors.New("token is not accepted")
	// ErrAudience means a token that is genuine and valid, but for another route or feed.
	ErrAudience = errors.New("token is for another audience")
	// ErrNoToken means that no token was issued here under this id.
	ErrNoToken = errors.New("no such token: list them with resosync token list")
)

// Token is what is kept of a token that was issued; the signed text is not.
type Token struct {
	ID       string    `json:"id"`       // the jti. Default a UUID.
	Audience string    `json:"audience"` // API, or Push(feed)
	Client   string    `json:"client"`   // whom it was given to; of a push token, for people only
	Scopes   []string  `json:"scopes,omitempty"`
	Created  time.Time `json:"created"`          // Default now.
	Expires  time.Time `json:"expires,omitzero"` // zero: never
	Revoked  time.Time `json:"revoked,omitzero"` // zero: not
	Key      string    `json:"key,omitempty"`    // the id of the key that signed it; "": not known
	// Foreign says that this was another key than the agent's: the token is not accepted. Only List knows.
	Foreign bool `json:"foreign,omitempty"`
}

// Has says that the token carries the scope.
func (t Token) Has(scope string) bool {
	for _, s := range t.Scopes {
		if s == scope {
			return true
		}
	}
	return false
}

// Store keeps the documents of tokens and of clients, of kind "token" and "client".
type Store interface {
	entityevent.Docs
	Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error)
}

// Kind is the kind of the tokens' documents.
const Kind = "token"

// leeway forgives clocks that differ.
const leeway = time.Minute

// maxSigned is far above what Issue makes. Nothing longer is looked at.
const maxSigned = 4 << 10

// Authority issues and verifies the tokens of one agent. Its methods may be called concurrently.
type Authority struct {
	Key   ed25519.PrivateKey
	Store Store

	once    sync.Once
	parser  *jwt.Parser
	clock   *jwt.Validator
	genuine signatures
}

func (a *Authority) prepare() {
	a.once.Do(func() {
		a.parser = jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
		a.clock = jwt.NewValidator(jwt.WithLeeway(leeway))
	})
}

// Issue signs a token and stores its document durably, in this order: a token that was given out is
// always known. It returns the token as it was stored.
func (a *Authority) Issue(ctx context.Context, t Token) (signed string, issued Token, err error) {
	if err := t.check(); err != nil {
		return "", Token{}, fmt.Errorf("issue token for %q: %w", t.Client, err)
	}
	if t.ID == "" {
		t.ID = uuid.NewString()
	}
	if t.Created.IsZero() {
		t.Created = time.Now()
	}
	t.Created, t.Expires, t.Revoked = second(t.Created), second(t.Expires), time.Time{}
	t.Key, t.Foreign = keyID(a.Key), false
	// No nbf: a token stays good when the clock is set back to before it was made.
	c := jwt.RegisteredClaims{
		ID:       t.ID,
		Subject:  t.Client,
		Audience: jwt.ClaimStrings{t.Audience},
		IssuedAt: jwt.NewNumericDate(t.Created),
	}
	if !t.Expires.IsZero() {
		c.ExpiresAt = jwt.NewNumericDate(t.Expires)
	}
	signed, err = jwt.NewWithClaims(jwt.SigningMethodEdDSA, c).SignedString(a.Key)
	if err != nil {
		return "", Token{}, fmt.Errorf("sign token %s: %w", t.ID, err)
	}
	if len(signed) > maxSigned {
		return "", Token{}, fmt.Errorf("issue token for %.20q…: the name is too long", t.Client)
	}
	if err := a.commit(ctx, document(Kind, t.ID, 0, t)); err != nil {
		return "", Token{}, err
	}
	return signed, t, nil
}

// claims are what a token says.
type claims struct {
	jwt.RegisteredClaims
	Generation int64  `json:"gen,omitempty"`   // of the client, in a token that it got for its secret; 0: the jti has a document
	Scope      string `json:"scope,omitempty"` // with a generation
}

func (t Token) check() error {
	if feed, push := strings.CutPrefix(t.Audience, Push("")); t.Audience != API && (!push || feed == "") {
		return fmt.Errorf("audience is %q: want %q or %q", t.Audience, API, Push("<feed>"))
	}
	for _, s := range t.Scopes {
		switch s {
		case ScopeRead, ScopeWrite, ScopeSubscribe, ScopeAdmin:
		default:
			return fmt.Errorf("unknown scope %q: want read, write, subscribe or admin", s)
		}
	}
	return nil
}

// Verify returns the token that signed stands for, if it is genuine, valid now, known, not revoked and
// for this audience: ErrUnauthorized or ErrAudience if not, and the store's error if it cannot tell.
// The signature of a token is checked once and then remembered; the document is read every time, and what it
// says is remembered as long as it is the same.
func (a *Authority) Verify(ctx context.Context, signed, audience string) (Token, error) {
	a.prepare()
	s, err := a.claims(signed)
	if err != nil {
		return Token{}, err
	}
	c := &s.claims
	if err := a.clock.Validate(c); err != nil {
		return Token{}, fmt.Errorf("%w: it has expired", ErrUnauthorized)
	}
	if c.Generation != 0 {
		return a.granted(ctx, *c, audience)
	}
	t, _, err := a.read(ctx, c.ID, s)
	switch {
	case errors.Is(err, ErrNoToken):
		return Token{}, fmt.Errorf("%w: it is not known here", ErrUnauthorized)
	case err != nil:
		return Token{}, err
	case !t.Revoked.IsZero():
		return Token{}, fmt.Errorf("%w: it was revoked", ErrUnauthorized)
	case !t.Expires.IsZero() && time.Now().After(t.Expires.Add(leeway)):
		return Token{}, fmt.Errorf("%w: it has expired", ErrUnauthorized)
	case len(c.Audience) != 1 || c.Audience[0] != t.Audience || c.Subject != t.Client:
		return Token{}, fmt.Errorf("%w: it contradicts what was issued", ErrUnauthorized)
	case t.Audience != audience:
		return Token{}, ErrAudience
	}
	return t, nil
}

// claims returns what signed says, if the signature is ours.
func (a *Authority) claims(signed string) (*signature, error) {
	// Decoders of base64 skip line ends: one token would have many texts.
	if signed == "" || len(signed) > maxSigned || strings.ContainsAny(signed, "\r\n") {
		return nil, fmt.Errorf("%w: it is not one of this agent", ErrUnauthorized)
	}
	if s := a.genuine.get(signed); s != nil {
		return s, nil
	}
	var c claims
	// The library's errors may repeat parts of the token.
	if _, err := a.parser.ParseWithClaims(signed, &c, func(t *jwt.Token) (any, error) {
		// Ours name the algorithm and the type. Anything else asks to be verified in another way, with a key
		// that it brings or points at, or wants to be understood (crit).
		if len(t.Header) != 2 || t.Header["typ"] != "JWT" {
			return nil, ErrUnauthorized
		}
		return a.Key.Public(), nil
	}); err != nil || c.ID == "" {
		return nil, fmt.Errorf("%w: it is not one of this agent", ErrUnauthorized)
	}
	return a.genuine.put(signed, c), nil
}

// Revoke ends a token: durably, and from the next Verify on. Revoking it again changes nothing.
func (a *Authority) Revoke(ctx context.Context, id string) error {
	for {
		t, version, err := a.read(ctx, id, &signature{})
		if err != nil || !t.Revoked.IsZero() {
			return err
		}
		t.Revoked = second(time.Now())
		if err := a.commit(ctx, document(Kind, id, version, t)); !errors.Is(err, entityevent.ErrConflict) {
			return err
		}
	}
}

// List returns every token ever issued, in order of their ids.
func (a *Authority) List(ctx context.Context) ([]Token, error) {
	docs, err := a.Store.List(ctx, Kind)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	tokens := make([]Token, len(docs))
	for i, d := range docs {
		if err := json.Unmarshal(d.Body, &tokens[i]); err != nil {
			return nil, fmt.Errorf("token %s: %w", d.ID, err)
		}
		tokens[i].Foreign = tokens[i].Key != "" && tokens[i].Key != keyID(a.Key)
	}
	return tokens, nil
}

// read reads the document of a token, of which a signature may know what it says.
func (a *Authority) read(ctx context.Context, id string, s *signature) (t Token, version int64, err error) {
	doc, err := a.Store.Get(ctx, Kind, id)
	if err != nil {
		return Token{}, 0, fmt.Errorf("token %s: %w", id, err)
	}
	if doc.Version == 0 {
		return Token{}, 0, fmt.Errorf("token %s: %w", id, ErrNoToken)
	}
	if t, err = s.token(doc.Body); err != nil {
		return Token{}, 0, fmt.Errorf("token %s: %w", id, err)
	}
	return t, doc.Version, nil
}

func second(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Second)
}

// FromHeader returns the bearer token of a request (RFC 6750, 2.1), "" if there is none, or more than
// one Authorization header.
func FromHeader(h http.Header) string {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
