package task_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/task"
)

// files are the names of what is in the folder of results.
func (r *rig) files() []string {
	entries, err := os.ReadDir(filepath.Join(r.dir, "results"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// status is what a task says of itself: its status, and the detail if it failed or was cancelled.
func (r *rig) status(path string) (status, detail string) {
	a := r.get(path)
	members := a.want(a.status)
	if a.status == http.StatusUnprocessableEntity {
		a.has("Content-Type: application/problem+json")
		return members["title"].(string), members["detail"].(string)
	}
	status, _ = members["status"].(string)
	return status, fmt.Sprint(members["progress"])
}

func (r *rig) wantStatus(path, want, detail string) {
	r.Helper()
	if status, text := r.status(path); status != want || !strings.Contains(text, detail) {
		r.Errorf("%s, %s; want %s, %s", status, text, want, detail)
	}
}

// TestProgress: it grows with the pages, and is never that of a task that is done.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(3500, 10)
		turns := r.store.hold()
		r.run()
		path := r.create(`{"type":"snapshot"}`)
		var seen []float64
		for range 3500 {
			turns <- nil
			if n := len(seen); n < 4 || n%500 == 0 {
				synctest.Wait()
			}
			seen = append(seen, r.get(path).want(http.StatusAccepted)["progress"].(float64))
		}
		if !slices.IsSorted(seen) || seen[0] != 0 || slices.Max(seen) > 99 {
			t.Errorf("from %v to %v", seen[0], slices.Max(seen))
		}
		steps := slices.Compact(seen)
		if len(steps) < 4 || steps[1] != 28 || steps[2] != 57 || steps[3] != 85 {
			t.Errorf("%v", steps)
		}
		close(turns)
		r.done(path)
	})
}

// TestSnapshotOfAProfile: a client is told of what it sees alone, in its progress too, and under the name of its log. Of
// a record of which all is hidden a line is left, and the one after it is whole.
func TestSnapshotOfAProfile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idx = "Authorization: Bearer idx"
		r := newRig(t)
		r.listings(1000, 10) // the first 500 are cheap
		r.put("Media", "a1", `{"MediaKey":"a1","ResourceName":"Property","ResourceRecordKey":"p0000001"}`)
		r.put("Member", "m0", `{"MemberEmail":"m0@x"}`)
		r.put("Member", "m1", `{"MemberKey":"m1","MemberEmail":"m1@x"}`)
		turns := r.store.hold()
		r.run()
		path := r.create(`{"type":"snapshot"}`, idx)
		for range 502 { // all but the photo
			turns <- nil
		}
		synctest.Wait()
		if got := r.get(path, idx).want(http.StatusAccepted)["progress"]; got != 99. {
			t.Errorf("progress %v", got)
		}
		close(turns)
		log := string(r.store.LogID()) + "/idx"
		if done := r.done(path, idx); done["log"] != log || done["count"] != 503. {
			t.Errorf("%v", done)
		}
		text := r.get(path+"/result", idx).has("EntityEvent-Log: " + log).body
		const want = `{"@reso.context":"urn:reso:metadata:2.0:resource:member"}` + "\n" +
			`{"@reso.context":"urn:reso:metadata:2.0:resource:member","MemberKey":"m1"}` + "\n"
		if !strings.HasPrefix(text, want) || strings.Count(text, "\n") != 503 {
			t.Errorf("%.300s", text)
		}
	})
}

// TestTwoAtATime: two tasks run, those of who has none first, and the others wait.
func TestTwoAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(1, 10)
		r.store.hold()
		var paths []string
		for range 3 {
			paths = append(paths, r.create(`{"type":"snapshot"}`))
		}
		bobs := r.create(`{"type":"snapshot"}`, "Authorization: Bearer bob")
		r.run()
		synctest.Wait()
		for i, want := range []string{"running", "pending", "pending"} {
			r.wantStatus(paths[i], want, "0")
		}
		if a := r.get(bobs, "Authorization: Bearer bob"); a.want(http.StatusAccepted)["status"] != "running" {
			t.Errorf("bob: %s", a.body)
		}
		r.do(http.MethodDelete, paths[0], "").want(http.StatusNoContent)
		synctest.Wait()
		r.wantStatus(paths[0], "cancelled", "by its client")
		r.wantStatus(paths[1], "running", "0")
		r.wantStatus(paths[2], "pending", "0")
	})
}

// TestCancel: a task that runs stops, nothing is left of it, and to cancel it again is the same.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(3, task.BlockSize)
		turns := r.store.hold()
		r.run()
		path := r.create(`{"type":"snapshot"}`)
		turns <- nil
		turns <- nil
		synctest.Wait()
		if n := len(r.files()); n != 1 {
			t.Errorf("%d files while it runs", n)
		}
		for range 2 {
			a := r.do(http.MethodDelete, path, "").has("Content-Type")
			if a.want(http.StatusNoContent); a.body != "" {
				t.Error(a.body)
			}
		}
		synctest.Wait() // no time has to pass
		if n := len(r.files()); n != 0 {
			t.Errorf("%d files when it is cancelled", n)
		}
		r.wantStatus(path, "cancelled", "by its client")
		r.get(path, "Accept: application/hal+json").want(http.StatusUnprocessableEntity)
		r.get(path + "/result").want(http.StatusNotFound)

		r.store.release()
		path = r.create(`{"type":"snapshot"}`) // one that is done loses its result
		r.done(path)
		r.do(http.MethodDelete, path, "").want(http.StatusNoContent)
		r.wantStatus(path, "cancelled", "by its client")
		r.get(path + "/result").want(http.StatusNotFound)
		if n := len(r.files()); n != 0 {
			t.Errorf("%d files when its result was dropped", n)
		}
	})
}

// TestRestart: results are kept, and what was not done is done, with another attempt only if it was cut.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).run()
		r.listings(2, 10)
		done := r.create(`{"type":"snapshot"}`)
		r.done(done)
		result := r.get(done + "/result").body
		turns := r.store.hold()
		cut := r.create(`{"type":"snapshot"}`)
		turns <- nil
		synctest.Wait()
		for range 5 { // ends of the agent are no attempts
			r.restart()
			if n := len(r.files()); n != 1 {
				t.Errorf("%d files", n)
			}
			r.wantStatus(cut, "pending", "0")
			turns = r.store.hold()
			r.run()
			turns <- nil
		}
		close(turns)
		r.done(cut)
		if got := r.get(done + "/result").body; got != result || len(r.get(cut+"/result").body) != len(result) {
			t.Errorf("another result: %s", got)
		}
		r.restart()
		r.get(cut + "/result").want(http.StatusOK)
	})
}

// TestCrash: a task that was cut begins again, three times in all, and then says that it failed. What a crash leaves in
// the folder goes.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(2, 10)
		path := r.create(`{"type":"snapshot"}`)
		for range 3 {
			turns := r.store.hold()
			r.run()
			turns <- nil
			synctest.Wait()
			r.wantStatus(path, "running", "0")
			crashed := snapshotOf(t, r) // what kill -9 leaves
			r.end()
			r.restart()
			r.restore(crashed)
			if n := len(r.files()); n != 1 {
				t.Errorf("%d files after a crash", n)
			}
			r.wantStatus(path, "pending", "0")
		}
		other := filepath.Join(r.dir, "results", "notes.txt")
		if err := os.WriteFile(other, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r.run()
		synctest.Wait()
		r.wantStatus(path, "failed", "cut short 3 times")
		if files := r.files(); len(files) != 1 || files[0] != "notes.txt" {
			t.Errorf("left: %v", files)
		}
	})
}

// TestStoreFails: what cannot be read is tried again later, three times in all.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(2, 10)
		turns := r.store.hold()
		r.run()
		path := r.create(`{"type":"snapshot"}`)
		turns <- nil
		turns <- errors.New("disk on fire")
		synctest.Wait()
		r.wantStatus(path, "pending", "")
		turns <- errors.New("disk on fire")
		turns <- errors.New("disk on fire")
		synctest.Wait()
		r.wantStatus(path, "failed", "could not read all records, 3 times")
		if _, detail := r.status(path); strings.Contains(detail, "fire") || len(r.files()) > 0 {
			t.Errorf("%s, %v", detail, r.files())
		}
		again := r.create(`{"type":"snapshot"}`)
		turns <- errors.New("disk on fire")
		close(turns)
		r.done(again)
	})
}

// TestNotStored: a task that could not be stored is none, and counts as none.
func TestNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first := r.create(`{"type":"digest"}`)
		r.store.refuse(20)
		for range 20 {
			r.do(http.MethodPost, "/tasks", `{"type":"digest"}`).want(http.StatusServiceUnavailable)
		}
		second := r.create(`{"type":"digest"}`)
		r.run()
		r.done(first)
		r.done(second)
	})
}

// TestStoreComesLate: while the stored tasks cannot be read that is tried now and then, and told once.
func TestStoreComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		path := r.create(`{"type":"digest"}`)
		r.restart()
		r.store.refuse(1000)
		r.run()
		time.Sleep(12 * time.Second)
		r.store.mu.Lock()
		if n := r.store.refused; n < 2 || n > 4 {
			t.Errorf("it was tried %d times", n)
		}
		r.store.mu.Unlock()
		if n := strings.Count(r.log.String(), "tasks cannot go on"); n != 1 {
			t.Errorf("it was told %d times", n)
		}
		r.store.refuse(0)
		r.done(path)
	})
}

// TestCancelledInTurn: a task that is cancelled just when its turn comes stays so.
func TestCancelledInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		path := r.create(`{"type":"snapshot"}`)
		var once sync.Once
		r.tasks.Clients = func(name string) (producer.Client, bool) {
			once.Do(func() { r.do(http.MethodDelete, path, "").want(http.StatusNoContent) })
			return r.gate.client(name)
		}
		r.run()
		time.Sleep(time.Minute)
		r.wantStatus(path, "cancelled", "by its client")
		if files := r.files(); len(files) > 0 {
			t.Errorf("left: %v", files)
		}
	})
}

// TestDisk: results leave room for the store, and a disk that is full all the same fails the task, not the agent.
func TestDisk(t *testing.T) {
	const mb = 1 << 20
	for name, c := range map[string]struct {
		free, total uint64
		after       int // bytes; then the disk is full
		err         error
		want        string
	}{
		"less than 512 MB": {511 * mb, 1000 * mb, 1 << 40, nil, "too little room"},
		"less than 5 %":    {4_900 * mb, 100_000 * mb, 1 << 40, nil, "too little room"},
		"less than 10 GB":  {10_239 * mb, 10_000_000 * mb, 1 << 40, nil, "too little room"},
		"full":             {1000 * mb, 1000 * mb, 3000, syscall.ENOSPC, "too little room"},
		"over quota":       {1000 * mb, 1000 * mb, 0, syscall.EDQUOT, "too little room"},
		"broken":           {1000 * mb, 1000 * mb, 2000, syscall.EIO, "could not write"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.listings(4, 2*task.BlockSize)
				r.tasks.SetDisk(func() uint64 { return c.free }, func() uint64 { return c.total })
				r.tasks.FailWrites(c.after, c.err)
				r.run()
				path := r.create(`{"type":"snapshot"}`)
				r.get(path, "Prefer: wait=120").want(http.StatusUnprocessableEntity)
				synctest.Wait()
				r.wantStatus(path, "failed", c.want)
				if files := r.files(); len(files) > 0 {
					t.Errorf("left: %v", files)
				}
				if !strings.Contains(r.log.String(), "level=WARN") {
					t.Error("nobody was told")
				}
				r.get(path + "/result").want(http.StatusNotFound)
				r.do(http.MethodDelete, path, "").want(http.StatusNoContent)
				r.wantStatus(path, "failed", c.want) // as it was
			})
		})
	}
}

// TestLargeDisk: of a large one 10 GB are enough to be left free.
func TestLargeDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tasks.SetDisk(func() uint64 { return 10 << 30 }, func() uint64 { return 10 << 40 })
		r.run()
		r.done(r.create(`{"type":"snapshot"}`))
	})
}

// TestDiskFillsMeanwhile: room is looked for while a result is written, too.
func TestDiskFillsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(20, 2*task.BlockSize)
		free := uint64(1 << 40)
		turns := r.store.hold()
		r.tasks.SetDisk(func() uint64 { return free }, func() uint64 { return 1 << 40 })
		r.run()
		path := r.create(`{"type":"snapshot"}`)
		turns <- nil
		synctest.Wait()
		free = 1 << 20
		close(turns)
		r.get(path, "Prefer: wait=120").want(http.StatusUnprocessableEntity)
		r.wantStatus(path, "failed", "too little room")
	})
}

// TestDiskIsShared: who holds most loses the oldest results first, and nobody the last one.
func TestDiskIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(10, 2*task.BlockSize)
		const leave, room = 512 << 20, 3 // results
		size := uint64(1)
		r.tasks.SetDisk(func() uint64 {
			var used uint64
			for _, name := range r.files() {
				if info, err := os.Stat(filepath.Join(r.dir, "results", name)); err == nil && strings.HasSuffix(name, ".result") {
					used += uint64(info.Size())
				}
			}
			return leave + room*size - 1 - used
		}, func() uint64 { return 1 << 30 })
		r.run()
		made := func(client string) (path string) {
			t.Helper()
			path = r.create(`{"type":"snapshot"}`, "Authorization: Bearer "+client)
			r.get(path, "Authorization: Bearer "+client, "Prefer: wait=120")
			time.Sleep(time.Second)
			return path
		}
		status := func(client, path string) int {
			return r.get(path, "Authorization: Bearer "+client).status
		}
		first := made("alice")
		info, err := os.Stat(filepath.Join(r.dir, "results", r.files()[0]))
		if err != nil {
			t.Fatal(err)
		}
		size = uint64(info.Size())
		second, third := made("alice"), made("alice")
		fourth := made("idx")
		for path, want := range map[string]int{first: 422, second: 200, third: 200} {
			if got := status("alice", path); got != want {
				t.Errorf("%d, want %d", got, want)
			}
		}
		if got := status("idx", fourth); got != 200 {
			t.Errorf("the other has %d", got)
		}
		r.wantStatus(first, "cancelled", "too little room")
		fifth := made("alice")
		if status("alice", second) != 422 || status("alice", fifth) != 200 || status("idx", fourth) != 200 {
			t.Error("its own oldest was not dropped, or the other's was")
		}
		if sixth := made("idx"); status("idx", sixth) != 200 || status("alice", third) != 422 || status("alice", fifth) != 200 {
			t.Error("who holds most did not lose the oldest")
		}
	})
}

// TestOneResultDoesNotTakeAll: whoever holds less than a quarter gets room from one who holds more, be it in one result.
// Who still reads what is dropped does not keep its room.
func TestOneResultDoesNotTakeAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(10, 2*task.BlockSize)
		free := uint64(1 << 30)
		folder := filepath.Join(r.dir, "results")
		r.tasks.SetDisk(func() uint64 {
			if len(r.files()) == 0 {
				return 1 << 30
			}
			return free
		}, func() uint64 { return 1 << 30 })
		r.run()
		hog := r.create(`{"type":"snapshot"}`)
		r.done(hog)
		reader, err := os.Open(filepath.Join(folder, r.files()[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		free = 512<<20 - 1
		other := r.create(`{"type":"digest"}`, "Authorization: Bearer bob")
		r.done(other, "Authorization: Bearer bob")
		r.wantStatus(hog, "cancelled", "too little room")
		if info, err := reader.Stat(); err != nil || info.Size() != 0 {
			t.Errorf("%v, %v", info, err)
		}
	})
}

// TestDay: a result is kept for a day after the end, and its task.
func TestDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).run()
		var all []string
		for range 3 {
			path := r.create(`{"type":"digest"}`)
			r.done(path)
			all = append(all, path)
		}
		time.Sleep(time.Hour)
		r.do(http.MethodDelete, all[2], "").want(http.StatusNoContent)
		time.Sleep(23*time.Hour - time.Second)
		r.get(all[0] + "/result").want(http.StatusOK)
		time.Sleep(2 * time.Second)
		for _, path := range all {
			r.get(path).want(http.StatusNotFound)
			r.get(path + "/result").want(http.StatusNotFound)
			r.do(http.MethodDelete, path, "").want(http.StatusNotFound)
		}
		docs, err := r.store.List(t.Context(), "task")
		if err != nil || len(docs) > 0 || len(r.files()) > 0 {
			t.Errorf("left: %v %v, %v", docs, r.files(), err)
		}
	})
}

// TestClientIsGone: the task of a client that is no longer in the configuration is cancelled when its turn comes.
func TestClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		path := r.create(`{"type":"snapshot"}`)
		alice, _ := r.gate.client("alice")
		r.gate.revoke("alice")
		r.run()
		synctest.Wait()
		r.gate.set(alice)
		r.wantStatus(path, "cancelled", "no longer in the configuration")
		if files := r.files(); len(files) > 0 {
			t.Errorf("left: %v", files)
		}
	})
}
