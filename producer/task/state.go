package task

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// The kinds of the documents that hold tasks, under their ids.
const (
	kind = "task"
	// kindRanges is of the ranges of a digest, which may be many: read when it is made, and dropped when it ended.
	kindRanges = "task-ranges"
)

// What there is to do.
const (
	snapshot = "snapshot"
	digests  = "digest"
)

// The statuses of a task. The last three are final.
const (
	pending   = "pending"
	running   = "running"
	succeeded = "succeeded"
	failed    = "failed"
	cancelled = "cancelled"
)

// state is a task as it is stored.
type state struct {
	Client    string    `json:"client"`
	Type      string    `json:"type"`
	Resources []string  `json:"resources,omitempty"` // empty: all
	Ranged    bool      `json:"ranged,omitempty"`    // a digest of ranges alone, but for resources that are named too
	Created   time.Time `json:"created"`
	Status    string    `json:"status"`
	Attempts  int       `json:"attempts,omitempty"` // that were begun, but for those that ended with the agent
	Detail    string    `json:"detail,omitempty"`   // why it failed or was cancelled, for the client
	Ended     time.Time `json:"ended,omitzero"`
	Outcome   outcome   `json:"outcome,omitzero"`
	Callback  *callback `json:"callback,omitempty"`
}

// outcome is what is known of a result beside its content.
type outcome struct {
	Sequence entityevent.Sequence `json:"sequence"` // the head of the log before the first page
	Through  entityevent.Sequence `json:"through"`  // and after the last
	Log      string               `json:"log"`
	Count    int64                `json:"count"`
	Sight    string               `json:"sight"` // what the client could see then
}

// callback is where the outcome is posted.
type callback struct {
	URL      string    `json:"url,omitempty"` // sealed, as the token; neither is kept when it is done
	Token    string    `json:"token,omitempty"`
	Done     bool      `json:"done,omitempty"` // it was taken, or is not tried any more
	Attempts int       `json:"attempts,omitempty"`
	NextAt   time.Time `json:"nextAt,omitzero"`
}

func (s *state) over() bool {
	return s.Status == succeeded || s.Status == failed || s.Status == cancelled
}

// end ends the task.
func (s *state) end(status, detail string) {
	s.Status, s.Detail, s.Ended = status, detail, time.Now().UTC()
}

// task is a task in memory.
type task struct {
	id       string
	over     chan struct{} // closed when it ended
	progress atomic.Int64  // of the run, in percent
	writing  sync.Mutex    // held while the state is written

	// Guarded by Tasks.mu:
	state    state
	version  int64                   // of its document; 0: it is no more
	cancel   context.CancelCauseFunc // while it runs
	posting  bool
	notUntil time.Time // it begins, or is posted, later
}

// open reads the stored tasks once. Those that ran when the agent ended wait for their turn again.
func (t *Tasks) open(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loaded {
		return nil
	}
	docs, err := t.Store.List(ctx, kind)
	if err != nil {
		return fmt.Errorf("tasks: %w", err)
	}
	tasks := map[string]*task{}
	for _, doc := range docs {
		k := &task{id: doc.ID, version: doc.Version, over: make(chan struct{})}
		if err := json.Unmarshal(doc.Body, &k.state); err != nil {
			return fmt.Errorf("task %s: %w", doc.ID, err)
		}
		if k.state.Status == running {
			k.state.Status = pending
		}
		if k.state.over() {
			close(k.over)
		}
		tasks[k.id] = k
	}
	t.tasks, t.loaded = tasks, true
	if t.disk == nil {
		t.disk = diskOf
	}
	if t.create == nil {
		t.create = createFile
	}
	return nil
}

// get returns the task of a client. Nobody is told whether another's exists.
func (t *Tasks) get(id, client string) (*task, state, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.tasks[id]
	if k == nil || k.state.Client != client {
		return nil, state{}, errNoTask
	}
	return k, k.state, nil
}

// add stores a new task, perhaps in the place of an old one that has no result.
func (t *Tasks) add(ctx context.Context, id string, s state, ranges []askedRange) error {
	k := &task{id: id, over: make(chan struct{}), state: s}
	k.state.Ranged = len(ranges) > 0
	t.mu.Lock()
	open, kept := 0, 0
	var spare *task
	var ended time.Time // the first of those that have a result
	for _, other := range t.tasks {
		if other.state.Client != s.Client {
			continue
		}
		kept++
		switch of := &other.state; {
		case !of.over():
			open++
		case of.Status == succeeded:
			if ended.IsZero() || of.Ended.Before(ended) {
				ended = of.Ended
			}
		case other.version > 0 && !other.posting && (of.Callback == nil || of.Callback.Done) && (spare == nil || other.id < spare.id):
			spare = other
		}
	}
	var err error
	switch {
	case open >= maxOpen:
		err = &reply.Error{Status: 429, Wait: 30 * time.Second, Detail: fmt.Sprintf("%d tasks of yours are not done yet: wait for them, or cancel some (DELETE)", open)}
	case kept < cmp.Or(t.most, maxKept):
		spare = nil
		t.tasks[id] = k
	case spare == nil:
		wait := time.Hour
		if !ended.IsZero() {
			wait = min(wait, max(time.Until(ended.Add(keepFor)), time.Second))
		}
		err = &reply.Error{Status: 429, Wait: wait, Detail: fmt.Sprintf("%d tasks of yours are kept for a day, and no more are: drop those whose result you have (DELETE), or ask less often", kept)}
	default:
		t.tasks[id] = k
	}
	t.mu.Unlock()
	if err != nil {
		return err
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	var version int64
	if spare != nil {
		err = t.drop(ctx, spare)
	}
	if err == nil {
		version, err = t.write(ctx, k, k.state, ranges)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.version = version; err != nil {
		delete(t.tasks, id)
	}
	return err
}

// errUnchanged is returned by those who find that there is nothing to change.
var errUnchanged = errors.New("nothing to change")

// change changes the state of a task by what apply does with it, durably; with an error of apply nothing. Those who wait
// for its end are woken after that. A task that was dropped meanwhile is errNoTask.
func (t *Tasks) change(ctx context.Context, k *task, apply func(*state) error) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	t.mu.Lock()
	s, version, was := k.state, k.version, k.state.over()
	t.mu.Unlock()
	if version == 0 {
		return errNoTask
	}
	if s.Callback != nil {
		c := *s.Callback
		s.Callback = &c
	}
	if err := apply(&s); err != nil {
		return err
	}
	if c := s.Callback; c != nil && c.Done {
		c.URL, c.Token = "", ""
	}
	version, err := t.write(ctx, k, s, nil)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k.state, k.version = s, version
	if s.over() && !was {
		close(k.over)
	}
	t.signal()
	return nil
}

// write stores a state of a task, with its ranges as long as they are wanted, and returns the version of its document.
func (t *Tasks) write(ctx context.Context, k *task, s state, ranges []askedRange) (int64, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return k.version, err
	}
	docs := []entityevent.Doc{{Kind: kind, ID: k.id, Version: k.version, Body: body}}
	switch {
	case len(ranges) > 0:
		if body, err = json.Marshal(ranges); err != nil {
			return k.version, err
		}
		docs = append(docs, entityevent.Doc{Kind: kindRanges, ID: k.id, Body: body})
	case s.Ranged && s.over() && !k.state.over():
		docs = append(docs, entityevent.Doc{Kind: kindRanges, ID: k.id, Version: 1})
	}
	if _, err := t.Store.Apply(ctx, entityevent.Commit{Docs: docs}); err != nil {
		return k.version, fmt.Errorf("task %s: %w", k.id, err)
	}
	return k.version + 1, nil
}

// ranges reads the ranges of a digest that is not made yet.
func (t *Tasks) ranges(ctx context.Context, k *task, s state) (ranges []askedRange, err error) {
	if !s.Ranged {
		return nil, nil
	}
	doc, err := t.Store.Get(ctx, kindRanges, k.id)
	if err == nil {
		err = json.Unmarshal(doc.Body, &ranges)
	}
	if err != nil {
		return nil, fmt.Errorf("ranges of task %s: %w", k.id, err)
	}
	return ranges, nil
}

// drop forgets a task, which is over, and its result.
func (t *Tasks) drop(ctx context.Context, k *task) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	if k.version == 0 {
		return nil // somebody else did
	}
	doc := entityevent.Doc{Kind: kind, ID: k.id, Version: k.version}
	if _, err := t.Store.Apply(ctx, entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
		return fmt.Errorf("task %s: %w", k.id, err)
	}
	t.mu.Lock()
	k.version = 0
	delete(t.tasks, k.id)
	t.mu.Unlock()
	return t.remove(k.id)
}

// signal says that something is to be done. It does not block.
func (t *Tasks) signal() {
	select {
	case t.woken() <- struct{}{}:
	default:
	}
}

func (t *Tasks) woken() chan struct{} {
	t.begun.Do(func() { t.wake = make(chan struct{}, 1) })
	return t.wake
}

func (t *Tasks) logger() *slog.Logger {
	if t.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return t.Logger
}

func (t *Tasks) holds() *producer.Holds {
	if t.Holds == nil {
		return &t.own
	}
	return t.Holds
}

// sight names what a client may see, so that a result is not given to one who by now may see something else.
func sight(c producer.Client) string {
	resources := slices.Sorted(slices.Values(c.Resources))
	text, err := json.Marshal([]any{c.Profile, c.Mask, resources, c.Hide, c.Inline, c.Rules})
	if err != nil { // strings and numbers always have a JSON form
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
