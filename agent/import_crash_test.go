package main_test

import (
	"database/sql"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestImportReplaceIsKilled with SIGKILL in the middle: the agent that serves it, or the command itself where no
// agent runs. Nothing was removed then, and a second import completes what the first began.
func TestImportReplaceIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	const records, missing = 2500, 100
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent=%v", running), func(t *testing.T) {
			t.Parallel()
			address := freeAddress(t)
			p := newProcess(t, filepath.Join(t.TempDir(), "producer"), address, producerConfig(address))
			if running {
				p.start(t)
			}
			replace := []string{"import", "--replace", "--resource", "Property", "-"}
			p.importText(t, recordLines(0, records, ""), replace...)

			// Two thirds of the input are more than one batch, and the rest does not come.
			cmd := exec.Command(p.program(t), replace...)
			cmd.Dir, cmd.Env, cmd.Stderr = p.dir, p.env, p.output
			input, err := cmd.StdinPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // of no use if all went well
			whole := recordLines(missing, records, `,"V":2`) + recordLines(records, records+10, `,"V":2`)
			if _, err := io.WriteString(input, whole[:len(whole)*2/3]); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(30 * time.Second); p.count(t, `body LIKE '%"V":2%'`) < 1000; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("nothing is imported:\n%s", p.tail())
				}
			}
			if running {
				p.kill(t)
				input.Close()
			} else if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("an import that was broken off is a success")
			}

			if running {
				p.start(t)
			}
			changed := p.count(t, `body LIKE '%"V":2%'`)
			if left := p.count(t, "body IS NOT NULL"); left != records || changed < 1000 || changed >= records-missing {
				t.Errorf("%d of %d records are left, %d of them changed", left, records, changed)
			}
			want := fmt.Sprintf("{\"file\":\"-\",\"new\":10,\"changed\":%d,\"unchanged\":%d,\"refused\":0}\n{\"resource\":\"Property\",\"gone\":%d,\"held\":0}",
				records-missing-changed, changed, missing)
			if got := p.importText(t, whole, append(replace, "--json")...); got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
			if left := p.count(t, `body LIKE '%"V":2%'`); left != records-missing+10 || p.count(t, "body IS NOT NULL") != left {
				t.Errorf("%d are left, and %d in all", left, p.count(t, "body IS NOT NULL"))
			}
			if got := strings.Count(p.command(t, "events"), "\n") + 1; got != records+(records-missing)+10+missing {
				t.Errorf("%d events: one for each change, and no more", got)
			}
		})
	}
}

// importText runs a command that is to succeed with an input, and returns what it printed.
func (p *process) importText(t *testing.T, text string, args ...string) string {
	t.Helper()
	cmd := exec.Command(p.program(t), args...)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stderr = p.dir, p.env, strings.NewReader(text), p.output
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s\n%s", args, err, out, p.tail())
	}
	return strings.TrimSpace(string(out))
}

// count counts the producer's records for which an SQL condition holds.
func (p *process) count(t *testing.T, condition string) (n int) {
	t.Helper()
	p.sql(t, func(db *sql.DB) {
		if err := db.QueryRow(`SELECT count(*) FROM records WHERE ` + condition).Scan(&n); err != nil {
			t.Fatal(err)
		}
	})
	return n
}
