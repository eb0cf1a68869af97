package main_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// document returns a document of the folder's store as it stands there.
func (s *shell) document(kind string) (body string) {
	s.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.dir, "data", "resosync.db")+"?mode=ro")
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(`SELECT body FROM docs WHERE kind = ?`, kind).Scan(&body); err != nil {
		s.t.Fatal(err)
	}
	return body
}

// TestLookingLeavesProfiles: only what writes records makes the store know the profiles of a configuration.
func TestLookingLeavesProfiles(t *testing.T) {
	t.Parallel()
	s, address := newShell(t), freeAddress(t)
	config := func(profile string) string {
		return producerConfig(address) + "  profiles: {" + profile + ": {Property: {}}}\n"
	}
	s.write("resosync.yaml", config("good"))
	s.write("candidate.yaml", config("typo"))
	s.must(0, `the profiles of the configuration are not set in the store yet`, "status")
	s.pipe(`{"ListingKey":"1"}`, "import", "--resource", "Property", "-").must(t, 0, "1 new", "import")
	before := s.document("access")
	for _, command := range []string{"check", "status", "status --json", "events", "token list", "token issue --client vendor", "client secret vendor", "client revoke vendor", "compact", "backup copy.db"} {
		s.must(0, "", strings.Fields("-c candidate.yaml "+command)...)
		if now := s.document("access"); now != before {
			t.Fatalf("%s: %s, was %s", command, now, before)
		}
	}
	if said := s.must(0, "", "check").stdout; strings.Contains(said, "not set") {
		t.Errorf("with the configuration of the store: %s", said)
	}
	s.must(0, `ok +store .*; the profiles of the configuration are not set in the store yet`, "-c", "candidate.yaml", "check")
	s.pipe(`{"ListingKey":"1"}`, "-c", "candidate.yaml", "import", "--resource", "Property", "-").must(t, 0, "1 unchanged", "import")
	if now := s.document("access"); !strings.Contains(now, `"typo"`) {
		t.Errorf("after an import: %s", now)
	}
	s.agent(address)
	if now := s.document("access"); !strings.Contains(now, `"typo":{"bit":2,"off":true`) {
		t.Errorf("while an agent runs: %s", now)
	}
}

// TestCheckNamesTheConfiguration: faults of what the configuration names are not blamed on the store.
func TestCheckNamesTheConfiguration(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	config := producerConfig(freeAddress(t)) + "  metadata: ./absent.xml\n"
	s.write("resosync.yaml", config)
	said := s.must(1, `FAIL configuration: resosync.yaml:\d+:13: producer.metadata: open .*absent.xml: no such file`, "check").stdout
	if strings.Contains(said, "store") {
		t.Errorf("%s", said)
	}
	s.write("absent.xml", "<edmx")
	s.must(1, `FAIL configuration: resosync.yaml:\d+:13: producer.metadata: .*absent.xml: `, "check")
}

// TestTokensOfAnotherKey: tokens that a lost key had signed are not called good.
func TestTokensOfAnotherKey(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.write("resosync.yaml", producerConfig(freeAddress(t)))
	s.must(0, "^eyJ", "token", "issue", "--client", "vendor")
	s.must(0, `client vendor +read .* good\n$`, "token", "list")
	if err := os.Remove(filepath.Join(s.dir, "data", "signing.key")); err != nil {
		t.Fatal(err)
	}
	s.must(0, `signing.key was missing and a new one was made.* tokens=1`, "status")
	s.must(0, `^ID .*\n.* client vendor +read .* ended: signing.key is another one since\n$`, "token", "list")
}

// TestCheckNamesWhatNoRecordHas: where the schema is inferred a profile may be misspelt, and check says what it found.
func TestCheckNamesWhatNoRecordHas(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	config := producerConfig(freeAddress(t)) + "  profiles: {idx: {Property: {hide: [%s]}, Media: {with: Property}}}\n"
	s.write("resosync.yaml", fmt.Sprintf(config, "PrivateRemark, City"))
	s.pipe(`{"ListingKey":"1","PrivateRemarks":"x","City":"y"}`, "import", "--resource", "Property", "-").must(t, 0, "1 new", "import")
	s.must(0, `ok +profile idx: it shows Media, Property; no record has yet: Media, Property.PrivateRemark\n +are these spelt`, "check")
	s.pipe(`{"MediaKey":"0"}`, "import", "--resource", "Media", "-").must(t, 0, "1 new", "import")
	s.must(0, `no record has yet: Media.ResourceRecordKey, Property.PrivateRemark\n`, "check")
	s.pipe(`{"MediaKey":"1","ResourceRecordKey":"1"}`, "import", "--resource", "Media", "-").must(t, 0, "1 new", "import")
	s.write("resosync.yaml", fmt.Sprintf(config, "PrivateRemarks"))
	s.must(0, `ok +profile idx: it shows Media, Property\nok`, "check")
}
