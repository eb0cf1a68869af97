package subscription

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/seal"
	"github.com/resosync/resosync/producer"
)

// idempotencyKind is the kind of the documents that hold what was answered under an Idempotency-Key.
const idempotencyKind = "idempotency"

// keyLife is how long a key answers as it did.
const keyLife = 24 * time.Hour

// idempotency is a key that a client gave to a registration, and what was answered.
type idempotency struct {
	Created time.Time `json:"created"`
	Payload string    `json:"payload"` // the sealed hash of the body: by itself it would tell who guesses its secrets
	Answer  document  `json:"answer"`

	id      string
	payload string // of this request
	version int64
	seal    seal.Key
}

// idempotencyKey reads the key of the request; nil: it has none.
func (x *exchange) idempotencyKey(client producer.Client, body members) (*idempotency, error) {
	given := x.r.Header.Values("Idempotency-Key")
	if len(given) == 0 {
		return nil, nil
	}
	if key := given[0]; len(given) > 1 || key == "" || len(key) > 255 || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c >= 0x7f }) {
		return nil, refuse(http.StatusBadRequest, "Idempotency-Key: want one key of at most 255 printable ASCII characters")
	}
	plain, err := json.Marshal(body) // without spaces, and in one order
	if err != nil {
		return nil, fmt.Errorf("hash the body: %w", err)
	}
	return &idempotency{id: hash(client.Name + "\x00" + given[0]), payload: hash(string(plain)), seal: x.Seal}, nil
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// answered answers as before, if the key was used before.
func (k *idempotency) answered(x *exchange) (bool, error) {
	if k == nil {
		return false, nil
	}
	doc, err := x.Store.Get(x.r.Context(), idempotencyKind, k.id)
	if err != nil {
		return false, fmt.Errorf("idempotency key: %w", err)
	}
	if k.version = doc.Version; doc.Version == 0 {
		return false, nil
	}
	before, err := parseKey(doc)
	if err != nil || before.over() {
		return false, err
	}
	payload, err := x.Seal.Open(before.Payload, k.place())
	if err != nil || subtle.ConstantTimeCompare([]byte(payload), []byte(k.payload)) == 0 {
		return false, refuse(http.StatusUnprocessableEntity, "This Idempotency-Key was used for another request: take a new one")
	}
	return true, x.created(before.Answer)
}

func (k *idempotency) place() string { return "idempotency/" + k.id + "/payload" }

func (k *idempotency) over() bool { return time.Since(k.Created) > keyLife }

func parseKey(doc entityevent.Doc) (k idempotency, err error) {
	if err = json.Unmarshal(doc.Body, &k); err != nil {
		err = fmt.Errorf("idempotency key %s: %w", doc.ID, err)
	}
	return k, err
}

// document is the key with its answer, as it is stored.
func (k *idempotency) document(answer document) entityevent.Doc {
	k.Created, k.Payload, k.Answer = time.Now().UTC(), k.seal.Seal(k.payload, k.place()), answer
	return storedAs(idempotencyKind, k.id, k.version, k)
}
