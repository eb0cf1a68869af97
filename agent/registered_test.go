package main_test

import (
	"strings"
	"testing"
)

// TestStoppingSubscriptions: while no agent runs, status and check name the registered subscriptions that it would suspend
// as it starts. It is no failure, and is not said of what is suspended, or once the agent runs.
func TestStoppingSubscriptions(t *testing.T) {
	t.Parallel()
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", subscribeConfig(address))
	ids := map[string]string{}
	for _, client := range []string{"vendor", "other"} {
		ids[client] = strings.TrimSpace(s.must(0, `^[0-9a-f-]{36}\n`, "subscribe", "http://127.0.0.1:1/hook", "--client", client).stdout)
	}
	if out := s.must(0, `of vendor: active`, "status").stdout; strings.Contains(out, "suspended") {
		t.Error(out)
	}
	s.write("resosync.yaml", strings.Replace(subscribeConfig(address), "{name: other", "{name: another", 1))
	said := `subscription ` + ids["other"] + ` of other: it is suspended when the agent starts: its client other is no longer in the configuration.*\n +.* resosync cancel ` + ids["other"]
	for _, command := range []string{"status", "check"} {
		if out := s.must(0, said, command).stdout; strings.Count(out, "when the agent starts") != 1 {
			t.Error(out)
		}
	}
	s.must(0, `"stopping": \[\s+\{\s+"uuid": "`+ids["other"]+`",\s+"client": "other"`, "status", "--json")
	s.must(0, `of other: active`, "status") // nothing was changed

	agent := s.agent(address)
	s.await(`of other: suspended.*its client other is no longer in the configuration`, "status")
	agent.terminate(t)
	for _, command := range []string{"status", "check"} {
		if out := s.must(0, `.`, command).stdout; strings.Contains(out, "when the agent starts") {
			t.Error(out)
		}
	}
}
