package producer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// secretPrefix is how Standard Webhooks marks a secret.
const secretPrefix = "whsec_"

// CheckSecret says whether a text can sign pushes. After whsec_ it must be base64. Without that prefix it is base64 as well
// if it reads as such, as in the libraries of Standard Webhooks, else its own bytes are the key. The error repeats nothing
// of it.
func CheckSecret(secret string) error {
	switch key, err := signingKey(secret); {
	case secret == "":
		return nil
	case err != nil:
		return err
	case len(key) < 8 || len(key) > 1024 || !utf8.ValidString(secret) || strings.ContainsFunc(secret, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return errors.New("it is not 8 to 1,024 bytes: give whsec_ and the base64 of 24 to 64 random ones")
	}
	return nil
}

// signingKey returns nil for no secret.
func signingKey(secret string) ([]byte, error) {
	if secret == "" {
		return nil, nil
	}
	text, marked := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err == nil:
		return key, nil
	case marked:
		return nil, errors.New("what follows whsec_ is not base64")
	}
	return []byte(secret), nil
}

// deliveryID names a delivery: it is the same for every repeat of the same events, after a restart too, and another one when
// somebody asked for them anew.
func (r *run) deliveryID(b batch) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d %d", r.sub.Name, r.state.Replays, b.first, b.last))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// sign adds the headers of Standard Webhooks: id stays the same when a delivery is repeated.
func sign(h http.Header, key []byte, id string, now time.Time, body []byte) {
	at := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	for _, part := range []string{id, ".", at, "."} {
		mac.Write([]byte(part))
	}
	mac.Write(body)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", at)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}
