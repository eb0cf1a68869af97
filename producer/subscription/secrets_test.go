package subscription_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent/seal"
	"github.com/resosync/resosync/producer"
)

// TestSecretsStayHidden greps all that the package wrote, answered, logged and returned for what callers gave it: callback
// URLs, tokens and secrets.
func TestSecretsStayHidden(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	x := openRig(t, dir)
	x.put("Property", "1")
	text := func(seed string) string {
		return "whsec_" + base64.StdEncoding.EncodeToString([]byte("hidden-secret-"+seed+"-0123456789"))
	}
	body := func(seed, more string) string {
		return `{"callbackUrl": "https://192.0.2.7/hidden-path-` + seed + `?key=hidden-query-` + seed + `", "callbackToken": "hidden-token-` + seed + `", "secret": "` + text(seed) + `"` + more + `}`
	}
	keyed := body("a", `, "mode": "only-once", "consumerLabel": "B"`)
	a := x.ask(whole, "POST", "/subscriptions", keyed, "Idempotency-Key: k")
	a.want(t, 201)
	id := a.member("UUID")
	path := "/subscriptions/" + id
	x.ask(whole, "POST", "/subscriptions", keyed, "Idempotency-Key: k").want(t, 201)
	x.ask(whole, "POST", "/subscriptions", body("b", ""), "Idempotency-Key: k").want(t, 422)
	x.ask(whole, "PATCH", path, body("c", "")).want(t, 200)
	for _, more := range []string{`, "fromSequence": 9`, `, "mode": "x"`, `, "batchSize": 0`, `, "eventTypes": ["Castle"]`, `, "eventTypes": 1`, `, `, `, "timeout": "hidden-path-x"`, `, "protocol": "hidden-path-x"`} {
		if a := x.ask(whole, "POST", "/subscriptions", body("d", more)); a.status < 400 {
			t.Errorf("%s: %d", more, a.status)
		}
	}
	for _, url := range []string{"https://10.0.0.1/hidden-path", "https://user:hidden-token@192.0.2.7/", "https://192.0.2.7/%zz?hidden-query", "hidden-path", "https://192.0.2.7:99999/hidden-path", "https://192.0.2.7/#hidden-path"} {
		x.ask(whole, "POST", "/subscriptions", `{"callbackUrl": "`+url+`"}`).wantRefused(t, 403, "callbackUrl")
		x.ask(whole, "PATCH", path, `{"callbackUrl": "`+url+`"}`).wantRefused(t, 403, "callbackUrl")
	}
	for _, member := range []string{`"callbackToken": "hidden-token with a space"`, `"secret": "whsec_hidden-secret!"`, `"secret": "hid"`, `"callbackToken": 1`, `"callbackToken": "hidden-token`} {
		x.ask(whole, "PATCH", path, `{`+member+`}`)
	}
	x.api.Store = &watched{Store: x.store, fail: errors.New("internal")}
	x.ask(whole, "POST", "/subscriptions", body("e", "")).want(t, 503)
	x.ask(whole, "PATCH", path, body("e", "")).want(t, 503)
	x.api.Store = x.store
	x.ask(whole, "POST", path+"/resume", "").want(t, 202)
	x.ask(whole, "GET", "/subscriptions", "").want(t, 200)
	x.ask(owner, "GET", path, "").want(t, 200)

	// With another key nothing can be opened, and the errors say no more.
	x.api.Seal = seal.New(bytes.Repeat([]byte{9}, 64))
	x.active()
	x.ask(whole, "POST", path+"/resume", "").want(t, 403)
	x.ask(whole, "PATCH", path, `{"batchSize": 1}`).want(t, 403)
	x.ask(whole, "POST", "/subscriptions", keyed, "Idempotency-Key: k").want(t, 422)
	x.ask(whole, "PUT", path, "").want(t, 202)

	found := map[string]string{"answers": x.said.String(), "log": x.log.String(), "documents": x.documents()}
	if err := x.store.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(name)] = string(raw)
	}
	var plain map[string]json.RawMessage
	if err := json.Unmarshal([]byte(keyed), &plain); err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(plain)
	sum := sha256.Sum256(payload)
	secrets := []string{"hidden-token", "hidden-path", "hidden-query", "hidden-secret", hex.EncodeToString(sum[:])}
	for _, seed := range []string{"a", "b", "c", "d", "e"} {
		secrets = append(secrets, strings.TrimPrefix(text(seed), "whsec_")[:16])
	}
	for where, text := range found {
		for _, secret := range secrets {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s holds %s: %.200q", where, secret, text[max(0, at-80):])
			}
		}
	}
	if !strings.Contains(found["documents"], id) || !strings.Contains(found["resosync.db"], "registration") {
		t.Error("the documents were not looked at")
	}
	if !strings.Contains(found["log"], "internal") {
		t.Errorf("the log was not looked at: %s", found["log"])
	}
}

// TestSealedInPlace: what is sealed for one subscription opens nothing in another.
func TestSealedInPlace(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	first, second := x.register(whole, ""), x.register(other, "")
	docs := map[string]map[string]any{}
	for _, id := range []string{first, second} {
		doc, err := x.store.Get(t.Context(), "registration", id)
		if err != nil || json.Unmarshal(doc.Body, new(any)) != nil {
			t.Fatal(err)
		}
		var members map[string]any
		_ = json.Unmarshal(doc.Body, &members)
		docs[id] = members
	}
	docs[second]["token"] = docs[first]["token"]
	x.write("registration", second, docs[second])
	if got := x.active(); len(got) != 1 || got[0] != first || x.state(second).Status != producer.Suspended {
		t.Errorf("%q, %+v", got, x.state(second))
	}
}
