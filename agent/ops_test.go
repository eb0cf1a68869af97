package main_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRepairCommandsWithAndWithoutAgent runs what people do when something went wrong twice: by itself, and
// while an agent runs.
func TestRepairCommandsWithAndWithoutAgent(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent=%v", running), func(t *testing.T) {
			t.Parallel()
			mls, source := newShell(t), freeAddress(t)
			mls.write("resosync.yaml", producerConfig(source))
			mls.write("listings.jsonl", listings)
			mls.must(0, `3 new`, "import", "--resource", "Property", "listings.jsonl")
			token := strings.TrimSpace(mls.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
			mls.agent(source)

			refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusGone)
			}))
			defer refusing.Close()
			s, address := newShell(t), freeAddress(t)
			s.write("resosync.yaml", producerConfig(address)+fmt.Sprintf(`  subscriptions:
    - {name: b, client: vendor, url: "%s/hook?secret=hush", token: abc}
    - {name: new, client: vendor, url: "%s/hook", token: abc}
  allow_callbacks: [127.0.0.0/8]
consumer:
  feeds:
    - {name: up, url: "http://%s/odata", token: %s, resources: [Property], poll: "@every 1h"}
`, refusing.URL, refusing.URL, source, token))
			s.must(0, `up: level; 3 records loaded`, "sync")
			p := &process{dir: s.dir, address: address}
			endpoint := sha256.Sum256([]byte(refusing.URL + "/hook?secret=hush\x00abc"))
			p.sql(t, func(db *sql.DB) {
				mustExec(t, db, `DELETE FROM records WHERE feed = 'up' AND key = '3'`)
				// What only a fault brings about: records set aside, and a suspended subscription.
				mustExec(t, db, `INSERT INTO aside (feed, resource, key, kind, reason, tries, next_at) VALUES
					('up', 'Property', '1', 'poison', 'not JSON', 7, 4000000000000000), ('up', 'Property', 'O''Neil/2', 'poison', char(27) || '[2J', 1, 4000000000000000)`)
				mustExec(t, db, `INSERT INTO docs (kind, id, version, body) VALUES ('subscription', 'b', 1,
					'{"name":"b","status":"suspended","reason":"the subscriber says: gone","cursor":3,"acknowledged":3,"last_error":"410 Gone","endpoint":"`+hex.EncodeToString(endpoint[:8])+`"}')`)
			})
			if running {
				s.agent(address)
			}

			s.must(0, `(?s)feed up: .*2 set aside.*subscription b: suspended at 3, 0 behind; the subscriber says: gone\n +when that is put right: resosync resume b\n`, "status")
			if running {
				s.must(1, `^not ready: subscription b is suspended: .*resosync resume b`, "status", "--ready")
				s.must(1, `"ready": false,\n  "reasons": \[\n    "subscription b`, "status", "--ready", "--json")
			} else {
				s.must(1, `^not ready: no agent runs on the data folder: start it with .resosync run.`, "status", "--ready")
			}

			s.must(0, `(?m)^up +Property +1 +poison +7 +in \d+[dh] +not JSON$`, "aside", "list")
			s.must(0, `(?m)^up +Property +O'Neil/2 +poison +1 +in \d+[dh] +.\[2J$`, "aside", "list", "up")
			var aside []struct{ Feed, Resource, Key, Kind, Reason string }
			if err := json.Unmarshal([]byte(s.must(0, `^\[`, "aside", "list", "--json").stdout), &aside); err != nil || len(aside) != 2 || aside[0].Key != "1" || aside[0].Kind != "poison" {
				t.Errorf("%v, %v", aside, err)
			}
			s.must(2, `no feed "down"`, "aside", "list", "down")
			s.must(2, `--key goes with --resource`, "aside", "replay", "--key", "1")
			s.must(0, `up: nothing of that is set aside`, "aside", "replay", "--resource", "Member")
			s.must(0, `up: nothing of that is set aside`, "aside", "replay", "--resource", "Property", "--key", "")
			s.must(0, `up: 1 record is looked at again`, "aside", "replay", "--resource", "Property", "--key", "O'Neil/2")
			s.must(0, `^{"feed":"up","records":[12]}\n$`, "aside", "replay", "up", "--json")
			if !running {
				s.must(0, `up: level`, "sync")
			}
			s.await(`nothing is set aside`, "aside", "list")

			s.must(1, `there is no subscription "nobody": in the configuration there is b, new, and resosync subscriptions lists`, "resume", "nobody")
			if running {
				s.must(0, `subscription new goes on after \d+`, "resume", "new")
			} else {
				s.must(1, `subscription "new" has not begun`, "resume", "new")
			}
			s.must(0, `subscription b goes on after 3\nit was suspended: the subscriber says: gone\n`, "resume", "b")
			s.must(0, `"cursor": 3`, "resume", "b", "--json")
			s.must(0, `subscription b: active at 3`, "status")

			if err := os.Mkdir(filepath.Join(s.dir, "below"), 0o700); err != nil {
				t.Fatal(err)
			}
			s.must(0, `below/b.db: 0\.\d MB, log [0-9a-f-]{36} with every event up to 3`, "backup", "below/b.db")
			s.must(1, `below/b.db: .*exists`, "backup", "below/b.db")
			s.must(1, `none/b.db cannot be written: no such file or directory`, "backup", "none/b.db")
			s.must(0, `"bytes": \d+`, "backup", filepath.Join(s.dir, "c.db"), "--json")
			if info, err := os.Stat(filepath.Join(s.dir, "below", "b.db")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			s.must(0, `numbers go on after 4294967299, and its readers load anew`, "log", "new-id")
			s.must(0, `"head": 8589934595`, "log", "new-id", "--json")
			s.must(0, `head 8589934595\n`, "status")

			s.must(0, `up: Property: 3 records compared, 1 missing here \(3\)\nup: 1 difference; nothing was changed\n`, "reconcile", "--dry-run")
			s.must(0, `^{"feed":"up",.*"missing":1,.*"examples":{"missing":\["3"\]}`, "reconcile", "up", "--dry-run", "--json")
			s.must(0, `up: Property: 3 records compared, 1 missing here \(3\)\nup: 1 difference, put right\n`, "reconcile")
			s.must(0, `up: Property: 3 records compared\nup: equal\n`, "reconcile", "up")
			s.must(1, `copies from nobody`, "reconcile", "-c", mls.dir+"/resosync.yaml")
			s.must(2, `--dry-run changes nothing`, "reconcile", "--dry-run", "--allow-deletes")
			if strings.Contains(s.printed.String(), "hush") || strings.Contains(s.printed.String(), "\x1b") {
				t.Errorf("a command printed a secret or a control character:\n%s", s.printed.String())
			}
		})
	}
}

// TestHeldRemovals takes most of a producer's records away at once: the replica keeps them and says so, and
// lets them go when its operator says that they are right.
func TestHeldRemovals(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	r := newRestored(t)
	var keys []string
	for i := range 30 {
		keys = append(keys, fmt.Sprint(i))
	}
	r.put(t, 100, keys...)
	r.level(t)
	for _, key := range keys[:25] {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, fmt.Sprintf("http://%s/odata/Property('%s')", r.mls.address, key), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.write)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	until(t, func() (string, bool) {
		status, body := r.vendor.readyz(t)
		return body, status == http.StatusServiceUnavailable && strings.Contains(body, "removals are held")
	})
	until(t, func() (string, bool) {
		text := r.vendor.command(t, "status")
		return text, strings.Contains(text, "removals held") && !strings.Contains(text, "exact as of") && strings.Contains(text, "resosync reconcile mls --allow-deletes")
	})
	if text := r.vendor.command(t, "aside", "list"); !strings.Contains(text, "held") {
		t.Errorf("aside list:\n%s", text)
	}
	until(t, func() (string, bool) {
		n, _ := r.vendor.figure(t, `resosync_feed_held_removals{feed="mls"}`)
		return fmt.Sprint(n, " held"), n > 0 && r.vendor.command(t, "reconcile") != "" && len(r.vendor.records(t, "mls")) > 5
	})
	r.vendor.command(t, "reconcile", "--allow-deletes")
	r.level(t)
	until(t, func() (string, bool) {
		status, body := r.vendor.readyz(t)
		return body, status == http.StatusOK
	})
}
