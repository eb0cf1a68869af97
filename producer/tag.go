package producer

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/resosync/resosync/entityevent"
)

// tagKind is the kind of the document that holds the key of entity tags, under the id tagID.
const (
	tagKind = "etag"
	tagID   = "key"
)

type tagDoc struct {
	Key []byte `json:"key"`
}

// tagKey makes the entity tags of the records that are not shown whole. A record's hash covers what is hidden of
// it too, and would tell whoever sees the rest which of a few guesses is right. With a key that never leaves it
// tells nothing.
type tagKey struct {
	mu  sync.Mutex
	key []byte
}

// open returns the key: the store's, made on first use. One that cannot be stored is good until the server
// ends, for reading must not depend on a disk that can be written.
func (t *tagKey) open(ctx context.Context, store Store, feed string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.key != nil {
		return t.key, nil
	}
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	body, err := json.Marshal(tagDoc{key})
	if err != nil {
		return nil, err
	}
	kept, err := store.Get(ctx, tagKind, tagID)
	if err == nil && kept.Body == nil {
		made := entityevent.Doc{Kind: tagKind, ID: tagID, Version: kept.Version, Body: body}
		if _, err = store.Apply(ctx, entityevent.Commit{Feed: feed, Docs: []entityevent.Doc{made}}); errors.Is(err, entityevent.ErrConflict) {
			kept, err = store.Get(ctx, tagKind, tagID) // another process was first
		} else if ctx.Err() == nil {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key of entity tags: %w", err)
	}
	if kept.Body != nil {
		var doc tagDoc
		if err := json.Unmarshal(kept.Body, &doc); err != nil || len(doc.Key) != sha256.Size {
			return nil, errors.New("the document of the key of entity tags is damaged")
		}
		key = doc.Key
	}
	t.key = key
	return key, nil
}

// secretTags makes the exchange keep the hashes of records to itself if the client does not see them whole. Tags
// differ for those who see something else, so that a change of what is hidden changes them.
func (x *exchange) secretTags() error {
	if !x.client.limited() {
		return nil
	}
	key, err := x.tagKey.open(x.r.Context(), x.Store, x.feed())
	if err != nil {
		return err
	}
	sees, err := json.Marshal([]any{x.client.Profile, x.client.Hide, x.client.Inline})
	if err != nil {
		return err
	}
	own := hmac.New(sha256.New, key)
	own.Write(sees)
	x.tagger = hmac.New(sha256.New, own.Sum(nil))
	return nil
}

// tag is what a record's entity tag says to the client.
func (x *exchange) tag(h entityevent.Hash) entityevent.Hash {
	if x.tagger == nil {
		return h
	}
	x.tagger.Reset()
	x.tagger.Write(h[:])
	return entityevent.Hash(x.tagger.Sum(nil)[:len(h)])
}
