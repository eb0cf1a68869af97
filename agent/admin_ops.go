package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// ops serves what people do when something went wrong.
func (a *agent) ops(mux *http.ServeMux) {
	mux.HandleFunc("POST /admin/subscriptions/{name}/resume", a.serveResume)
	mux.HandleFunc("GET /admin/aside/{feed}", a.serveAside)
	mux.HandleFunc("POST /admin/aside/{feed}/replay", a.serveReplay)
	mux.HandleFunc("POST /admin/reconcile/{feed}", a.writing(a.serveReconcile))
	mux.HandleFunc("POST /admin/verify/{feed}", a.writing(a.serveVerify))
	mux.HandleFunc("POST /admin/backup", a.serveBackup)
	mux.HandleFunc("POST /admin/log", a.serveNewLog)
	mux.HandleFunc("POST /admin/log/keep", a.serveKeepLog)
	mux.HandleFunc("POST /admin/compact", a.serveCompact)
}

// serveResume lets a suspended subscription go on from its cursor, or a waiting one try at once.
func (a *agent) serveResume(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	was, err := producer.ReadState(r.Context(), a.store, name)
	absent := errors.Is(err, entityevent.ErrAbsent)
	_, wanted := a.subscription(name)
	switch {
	case absent && wanted:
		reply.Refuse(w, &reply.Error{Status: http.StatusConflict, Detail: fmt.Sprintf("subscription %q has not begun, so there is nothing to resume: it begins when the agent runs", name)})
		return
	case absent:
		reply.Refuse(w, &reply.Error{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no subscription %q: in the configuration there is %s, and resosync subscriptions lists those that were registered", name, a.subscriptionNames())})
		return
	case err != nil:
		refuse(w, err)
		return
	case !wanted:
		reply.Refuse(w, &reply.Error{Status: http.StatusConflict, Detail: fmt.Sprintf("subscription %q is no longer in the configuration: add it to producer.subscriptions, and it goes on from %d", name, was.Cursor)})
		return
	}
	var q resumeRequest
	if !readBody(w, r, &q) {
		return
	}
	head, err := a.head(r.Context())
	if err == nil && q.FromSequence != nil && *q.FromSequence > head {
		reply.Refuse(w, &reply.Error{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf("the log ends at %d: name a sequence up to it", head)})
		return
	}
	if err == nil {
		_, err = producer.ChangeState(r.Context(), a.store, name, func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
			if s.Resume(); q.FromSequence != nil {
				s.Replay(*q.FromSequence)
			}
			return nil, nil
		})
	}
	if err != nil {
		refuse(w, err)
		return
	}
	a.pushers.Wake(name)
	reply.Write(w, http.StatusAccepted, reply.JSON, was)
}

func (a *agent) subscriptionNames() string {
	var names []string
	for _, s := range a.subscriptions {
		names = append(names, s.Name)
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}

// asideRecord is a record set aside, as it is shown.
type asideRecord struct {
	Feed     string    `json:"feed"`
	Resource string    `json:"resource"`
	Key      string    `json:"key"`
	Kind     string    `json:"kind"` // poison, recheck or held
	Reason   string    `json:"reason"`
	Tries    int       `json:"tries"`
	NextAt   time.Time `json:"next_at,omitzero"`
}

// feedOf is the feed of a request's path; nil after it answered that there is none.
func (a *agent) feedOf(w http.ResponseWriter, r *http.Request) *consumer.Feed {
	f := a.feed(r.PathValue("feed"))
	if f == nil {
		reply.Refuse(w, &reply.Error{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no feed %q in the configuration that the agent runs with", r.PathValue("feed"))})
	}
	return f
}

func (a *agent) serveAside(w http.ResponseWriter, r *http.Request) {
	f := a.feedOf(w, r)
	if f == nil {
		return
	}
	all, err := a.store.Aside(r.Context(), f.Name, time.Time{}, 0)
	if err != nil {
		refuse(w, err)
		return
	}
	records := make([]asideRecord, len(all))
	for i, s := range all {
		records[i] = asideRecord{f.Name, s.Resource, s.Key, s.Kind, s.Reason, s.Tries, s.NextAt}
	}
	reply.Write(w, http.StatusOK, reply.JSON, records)
}

// replayRequest says what to look at again: one record, those of a resource, or all.
type replayRequest struct {
	Resource string  `json:"resource,omitempty"`
	Key      *string `json:"key,omitempty"` // "" is a key
}

func (a *agent) serveReplay(w http.ResponseWriter, r *http.Request) {
	f := a.feedOf(w, r)
	if f == nil {
		return
	}
	var q replayRequest
	if !readBody(w, r, &q) {
		return
	}
	all, err := a.store.Aside(r.Context(), f.Name, time.Time{}, 0)
	if err != nil {
		refuse(w, err)
		return
	}
	refs := []entityevent.Ref{}
	for _, s := range all {
		if (q.Resource == "" || s.Resource == q.Resource) && (q.Key == nil || s.Key == *q.Key) {
			refs = append(refs, s.Ref)
		}
	}
	n, err := f.Replay(r.Context(), refs)
	if err != nil {
		refuse(w, err)
		return
	}
	reply.Write(w, http.StatusAccepted, reply.JSON, map[string]int{"records": n})
}

// reconcileLine is one line of the answer to a reconcile: how far it is, until the one that says how it ended.
type reconcileLine struct {
	consumer.ReconcileProgress
	Done   bool                      `json:"done,omitempty"`
	Report *consumer.ReconcileReport `json:"report,omitempty"`
	Error  string                    `json:"error,omitempty"`
}

func (a *agent) serveReconcile(w http.ResponseWriter, r *http.Request) {
	f := a.feedOf(w, r)
	if f == nil {
		return
	}
	query := r.URL.Query()
	options := consumer.ReconcileOptions{DryRun: isSet(query, "dry-run"), AllowDeletes: isSet(query, "allow-deletes")}
	say := lines(w)
	report, err := f.Reconcile(r.Context(), options, func(p consumer.ReconcileProgress) { say(reconcileLine{ReconcileProgress: p}) })
	end := reconcileLine{Done: true, Report: &report}
	if err != nil {
		end.Error = err.Error()
	}
	say(end)
}

// isSet says whether a parameter is there, and not as false.
func isSet(query url.Values, name string) bool {
	set, err := strconv.ParseBool(query.Get(name))
	return query.Has(name) && (set || err != nil)
}

// lines begins an answer of JSON lines, and returns what sends the next one.
func lines(w http.ResponseWriter) (say func(any)) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	encoder, flush := json.NewEncoder(w), http.NewResponseController(w)
	return func(line any) {
		if encoder.Encode(line) == nil {
			_ = flush.Flush() // whoever does not listen any more misses it
		}
	}
}

// backedUp is the answer to a backup.
type backedUp struct {
	Path  string               `json:"path"`
	Bytes int64                `json:"bytes"`
	Log   entityevent.LogID    `json:"log"`
	Head  entityevent.Sequence `json:"head"` // the copy holds every event up to it
}

func (a *agent) serveBackup(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Path string `json:"path"`
	}
	if !readBody(w, r, &q) {
		return
	}
	if !filepath.IsAbs(q.Path) {
		reply.Refuse(w, &reply.Error{Status: http.StatusUnprocessableEntity, Detail: "path must be absolute"})
		return
	}
	done := backedUp{Path: q.Path, Log: a.store.LogID()}
	head, err := a.head(r.Context())
	if err == nil {
		done.Head = head
		err = a.store.Backup(r.Context(), q.Path)
	}
	var info fs.FileInfo
	var unwritable *fs.PathError
	if err == nil {
		info, err = os.Stat(q.Path)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		reply.Refuse(w, &reply.Error{Status: http.StatusConflict, Detail: err.Error()})
	case errors.As(err, &unwritable):
		reply.Refuse(w, &reply.Error{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf("%s cannot be written: %v: name a file in a folder that exists and that user %d, who writes it, may write",
			q.Path, unwritable.Err, os.Getuid())})
	case err != nil:
		refuse(w, err)
	default:
		done.Bytes = info.Size()
		reply.Write(w, http.StatusCreated, reply.JSON, done)
	}
}

// renamed is the answer to a new log id.
type renamed struct {
	Before entityevent.LogID    `json:"before"`
	Log    entityevent.LogID    `json:"log"`
	Head   entityevent.Sequence `json:"head"` // the next event has the number after it
}

func (a *agent) serveNewLog(w http.ResponseWriter, r *http.Request) {
	done := renamed{Before: a.store.LogID()}
	var err error
	if done.Log, err = a.store.NewLog(r.Context()); err == nil {
		done.Head, err = a.head(r.Context())
	}
	if err != nil {
		refuse(w, err)
		return
	}
	a.pushers.wakeAll()
	a.logger.Warn("the log has a new name: its readers load anew", "before", done.Before, "log", done.Log, "seq", done.Head)
	reply.Write(w, http.StatusCreated, reply.JSON, done)
}

func (a *agent) serveKeepLog(w http.ResponseWriter, r *http.Request) {
	was, err := producer.Disbelieve(r.Context(), a.store)
	switch {
	case errors.Is(err, producer.ErrNotRestored):
		reply.Refuse(w, &reply.Error{Status: http.StatusConflict, Detail: err.Error()})
	case err != nil:
		refuse(w, err)
	default:
		a.logger.Warn("the log keeps its name: a reader that claims to be ahead of it is not believed", "by", was.By, "seq", was.Seq)
		reply.Write(w, http.StatusOK, reply.JSON, was)
	}
}

// readBody decodes a small body of JSON; if it cannot, it answers so and returns false.
func readBody(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(into); err != nil {
		reply.Refuse(w, &reply.Error{Status: http.StatusBadRequest, Detail: "the body is not JSON as expected: is the command of another version than the agent?"})
		return false
	}
	return true
}
