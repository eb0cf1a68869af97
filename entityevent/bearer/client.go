package bearer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/resosync/resosync/entityevent"
)

// GrantLife is how long a token is good that a client gets for its secret (RFC 6749, 4.4).
const GrantLife = 15 * time.Minute

// ClientKind is the kind of the documents of clients' secrets, under the clients' names.
const ClientKind = "client"

var (
	// ErrSecret means a client without a secret here, or another secret than its own.
	ErrSecret = errors.New("client or secret is not accepted")
	// ErrNoClient means that a client has neither a secret nor a token to end.
	ErrNoClient = errors.New("no such client: it has no secret, and no token that is not revoked")
)

// credentials is what is kept of a client's secret; the secret is not. The secret has 256 random bits, so
// that one round of SHA-256 is as hard to go back on as any number of them.
type credentials struct {
	Hash       string    `json:"hash,omitempty"` // SHA-256 of the secret, in hexadecimal; "": it has none
	Generation int64     `json:"generation"`     // carried by the tokens that the secret gets: those of another are refused
	Changed    time.Time `json:"changed"`
}

// NewSecret makes a secret for a client and stores its hash durably. The one before ends, and with it the
// tokens that it got.
func (a *Authority) NewSecret(ctx context.Context, client string) (secret string, err error) {
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	secret = hex.EncodeToString(random[:])
	for {
		c, version, err := a.credentials(ctx, client)
		if err == nil {
			c = credentials{Hash: hashOf(secret), Generation: c.Generation + 1, Changed: second(time.Now())}
			err = a.commit(ctx, document(ClientKind, client, version, c))
		}
		if !errors.Is(err, entityevent.ErrConflict) {
			return secret, err
		}
	}
}

// Grant returns a token for the audience API, good for GrantLife, to a client that knows its secret; else
// ErrSecret. Nothing is stored: that the client's generation changes ends it.
func (a *Authority) Grant(ctx context.Context, client, secret string, scopes []string) (signed string, err error) {
	c, _, err := a.credentials(ctx, client)
	if err != nil {
		return "", err
	}
	// The hashes have the same length, also beside none: it takes as long whatever is wrong.
	if known := []byte(fmt.Sprintf("%64s", c.Hash)); subtle.ConstantTimeCompare(known, []byte(hashOf(secret))) != 1 {
		return "", ErrSecret
	}
	now := time.Now()
	signed, err = jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{ID: uuid.NewString(), Subject: client, Audience: jwt.ClaimStrings{API},
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(GrantLife))},
		Generation: c.Generation,
		Scope:      strings.Join(scopes, " "),
	}).SignedString(a.Key)
	if err != nil {
		return "", fmt.Errorf("sign token for client %q: %w", client, err)
	}
	return signed, nil
}

// granted returns the token that the claims of a grant stand for, if its client's generation is still that.
func (a *Authority) granted(ctx context.Context, c claims, audience string) (Token, error) {
	now, _, err := a.credentials(ctx, c.Subject)
	switch {
	case err != nil:
		return Token{}, err
	case c.ExpiresAt == nil || len(c.Audience) != 1 || c.Audience[0] != API:
		return Token{}, fmt.Errorf("%w: it is not one of this agent", ErrUnauthorized)
	case now.Generation != c.Generation:
		return Token{}, fmt.Errorf("%w: it was revoked", ErrUnauthorized)
	case audience != API:
		return Token{}, ErrAudience
	}
	t := Token{ID: c.ID, Audience: API, Client: c.Subject, Scopes: strings.Fields(c.Scope), Expires: c.ExpiresAt.Time}
	if c.IssuedAt != nil {
		t.Created = c.IssuedAt.Time
	}
	return t, nil
}

// RevokeClient ends a client's secret and all of its tokens for the audience API: durably, together, and
// from the next Verify on. It returns how many issued tokens it ended.
func (a *Authority) RevokeClient(ctx context.Context, client string) (tokens int, err error) {
	for {
		tokens, err = a.revokeClient(ctx, client)
		if !errors.Is(err, entityevent.ErrConflict) {
			return tokens, err
		}
	}
}

func (a *Authority) revokeClient(ctx context.Context, client string) (tokens int, err error) {
	c, version, err := a.credentials(ctx, client)
	if err != nil {
		return 0, err
	}
	list, err := a.Store.List(ctx, Kind)
	if err != nil {
		return 0, fmt.Errorf("list tokens: %w", err)
	}
	docs := []entityevent.Doc{document(ClientKind, client, version, credentials{Generation: c.Generation + 1, Changed: second(time.Now())})}
	for _, d := range list {
		var t Token
		if err := json.Unmarshal(d.Body, &t); err != nil {
			return 0, fmt.Errorf("token %s: %w", d.ID, err)
		}
		if t.Client == client && t.Audience == API && t.Revoked.IsZero() {
			t.Revoked = second(time.Now())
			docs = append(docs, document(Kind, t.ID, d.Version, t))
		}
	}
	tokens = len(docs) - 1
	if c.Hash == "" && tokens == 0 {
		return 0, fmt.Errorf("client %q: %w", client, ErrNoClient)
	}
	return tokens, a.commit(ctx, docs...)
}

func (a *Authority) credentials(ctx context.Context, client string) (c credentials, version int64, err error) {
	doc, err := a.Store.Get(ctx, ClientKind, client)
	if err == nil && doc.Version > 0 {
		err = json.Unmarshal(doc.Body, &c)
	}
	if err != nil {
		return credentials{}, 0, fmt.Errorf("client %s: %w", client, err)
	}
	return c, doc.Version, nil
}

// document is what is stored of a token or a client.
func document(kind, id string, version int64, body any) entityevent.Doc {
	text, _ := json.Marshal(body) // texts, numbers and times of this package
	return entityevent.Doc{Kind: kind, ID: id, Version: version, Body: text}
}

func (a *Authority) commit(ctx context.Context, docs ...entityevent.Doc) error {
	if _, err := a.Store.Apply(ctx, entityevent.Commit{Docs: docs}); err != nil {
		return fmt.Errorf("%s %s: %w", docs[0].Kind, docs[0].ID, err)
	}
	return nil
}

func hashOf(secret string) string {
	hash := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(hash[:])
}
