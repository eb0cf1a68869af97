package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestPairByHand sets up a pair with the commands alone, as a newcomer does: who makes which token, in
// which order, what check says on the way, and that sync and push fill the replica.
func TestPairByHand(t *testing.T) {
	mls, vendor := newShell(t), newShell(t)
	mlsAddress, vendorAddress := freeAddress(t), freeAddress(t)
	edit := func(s *shell, replacements ...string) {
		t.Helper()
		s.write("resosync.yaml", strings.NewReplacer(replacements...).Replace(s.read("resosync.yaml")))
	}

	mls.must(0, `resosync check`, "init", "--producer")
	mls.must(1, `overwrites nothing`, "init", "--producer")
	edit(mls, "127.0.0.1:8080", mlsAddress, "vendor-b", "vendor")
	mls.write("listings.jsonl", listings)
	mls.must(0, `3 new`, "import", "--resource", "Property", "listings.jsonl")
	api := strings.TrimSpace(mls.must(0, `^eyJ`, "token", "issue", "--client", "vendor").stdout)

	vendor.must(0, `/webhooks/mls`, "init", "--consumer", "http://"+mlsAddress+"/odata")
	edit(vendor, "127.0.0.1:8080", vendorAddress)
	vendor.must(1, `FAIL feed mls: .*no answer(.|\n)*reachable`, "check")
	running := mls.agent(mlsAddress)
	vendor.must(1, `FAIL feed mls: (.|\n)*resosync token issue --client`, "check")
	edit(vendor, `token: ""`, "token: wrong")
	vendor.must(1, `FAIL feed mls: (.|\n)*resosync token issue --client`, "check")
	edit(vendor, "token: wrong", "token: "+api)
	vendor.must(0, `ok +feed mls: its log is at 3`, "check")
	push := strings.TrimSpace(vendor.must(0, `^eyJ`, "token", "issue", "--feed", "mls").stdout)

	// The consumer catches up by command, without an agent of its own; twice, and again in full.
	vendor.must(0, `mls: level; 3 records loaded`, "sync")
	vendor.must(0, `mls: level; 0 records loaded`, "sync", "mls")
	vendor.must(0, `"records":3`, "sync", "--full", "--json")
	vendor.must(2, `no feed "other"`, "sync", "other")
	vendor.must(0, `records of mls: 3 Property\nfeed mls: at 3, 0 behind, 0 set aside`, "status")
	vendor.must(0, `\t1\n(.|\n)*O'Neil/2`, "events")

	// Then the producer learns where to push.
	running.kill(t)
	mls.write("resosync.yaml", producerConfig(mlsAddress)+fmt.Sprintf(`  allow_callbacks: [127.0.0.0/8]
  subscriptions:
    - {name: b, client: vendor, url: "http://%s/webhooks/mls?secret=hush", token: %s}
`, vendorAddress, push[:len(push)-4]))
	mls.must(1, `FAIL subscription b: (.|\n)*reachable`, "check")
	vendor.agent(vendorAddress)
	mls.must(1, `FAIL subscription b: refuses pushes: 401(.|\n)*resosync token issue --feed`, "check")
	edit(mls, push[:len(push)-4], push)
	mls.must(0, `ok +subscription b`, "check")
	edit(mls, "/webhooks/mls", "/webhooks/other")
	mls.must(1, `FAIL subscription b: refuses pushes: 40[34]`, "check")
	edit(mls, "/webhooks/other", "/webhooks/mls")
	edit(mls, "allow_callbacks: [127.0.0.0/8]", "allow_callbacks: [10.0.0.0/8]")
	mls.must(1, `FAIL subscription b: .*allow_callbacks`, "check")
	edit(mls, "allow_callbacks: [10.0.0.0/8]", "allow_callbacks: [127.0.0.0/8]")
	mls.must(0, `subscription b: not begun`, "status")
	mls.agent(mlsAddress)
	mls.await(`subscription b: active at 3, 0 behind`, "status")

	head := vendor.head()
	mls.pipe(strings.ReplaceAll(listings, "100.00", "120.00"), "import", "--resource", "Property", "-").must(t, 0, `1 changed`, "import")
	vendor.must(0, `Property\t1\n$`, "events", "--follow", "--after", head, "--limit", "1")
	waitFor(t, "http://"+vendorAddress+"/readyz")
	vendor.await(`"level": (.|\n)*"moved": `, "status", "--json")

	for _, s := range []*shell{mls, vendor} {
		printed := strings.ReplaceAll(strings.ReplaceAll(s.printed.String(), api+"\n", ""), push+"\n", "")
		for what, secret := range map[string]string{"API token": api, "push token": push, "query of a callback": "hush"} {
			if strings.Contains(printed, secret) {
				t.Errorf("a command printed the %s:\n%s", what, printed)
			}
		}
	}
	resp, err := http.Get("http://" + vendorAddress + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != "application/hal+json" {
		t.Errorf("GET / answers %s", resp.Header.Get("Content-Type"))
	}
}
