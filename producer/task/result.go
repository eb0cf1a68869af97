package task

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// mediaTypes are those of results.
var mediaTypes = map[string]string{snapshot: "application/x-ndjson", digests: reply.JSON}

// maxParts is how many ranges of a result are sent in one answer. Who asks for more gets all of it (RFC 9110, 14.2).
const maxParts = 64

// result answers GET /tasks/{id}/result.
func (a *asked) result(w http.ResponseWriter, r *http.Request) {
	s := a.state
	switch {
	case !s.over():
		a.refuse(w, r, &reply.Error{Status: http.StatusNotFound, Detail: "The task is not done yet: ask " + a.href(a.task.id)})
		return
	case s.Status != succeeded:
		a.refuse(w, r, &reply.Error{Status: http.StatusNotFound, Detail: "The task has no result: " + s.Detail})
		return
	case s.Outcome.Sight != sight(a.client):
		a.refuse(w, r, refused(elsewhere))
		return
	}
	stored, err := a.find(r.Context(), a.task)
	if err == nil && stored == nil {
		err = &reply.Error{Status: http.StatusNotFound, Detail: lost}
	}
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	defer stored.Close()
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", mediaTypes[s.Type])
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("EntityEvent-Log", s.Outcome.Log)
	h.Set("EntityEvent-After", s.Outcome.Sequence.String())
	h.Set("EntityEvent-Through", s.Outcome.Through.String())
	h.Add("Vary", "Accept-Encoding")
	plain := stored.plain()
	tag, content, parts := a.task.id, io.ReadSeeker(plain), maxParts
	if producer.AcceptsGzip(r.Header) {
		parts = 1 // several are wrapped in a text that is no gzip
		tag, content = tag+"-gzip", stored.compressed()
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.FormatInt(stored.packed, 10)) // of a range, ServeContent says it
	}
	h.Set("ETag", `"`+tag+`"`) // a task has one result
	if !ofParts(r.Header.Get("Range"), parts) {
		r.Header.Del("Range")
	}
	refusing := &refusing{ResponseWriter: w}
	http.ServeContent(refusing, r, "", time.Time{}, content)
	refusing.end()
	if errors.Is(plain.err, errDamaged) {
		a.logger().ErrorContext(r.Context(), "the result of a task is damaged", "task", a.task.id, "err", plain.err)
		a.lose(r.Context(), a.task)
	}
	if plain.err != nil {
		panic(http.ErrAbortHandler) // a part of it must not look like a whole one
	}
}

// find opens the result of a task that succeeded. It is nil if there is none, or not all of it: the task failed then.
func (t *Tasks) find(ctx context.Context, k *task) (*result, error) {
	stored, err := openResult(t.path(k.id))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
		t.logger().ErrorContext(ctx, "the result of a task is not to be read", "task", k.id, "err", err)
		t.lose(ctx, k)
		return nil, nil //nolint:nilnil // as it says
	}
	return stored, err
}

// What is told of results that are there no more, or not for this client.
const (
	lost      = "The result was lost: POST /tasks for another"
	elsewhere = "You may see something else by now than when this result was made: POST /tasks for another"
)

// lose makes a task one that failed, as its result is of no use.
func (t *Tasks) lose(ctx context.Context, k *task) {
	err := t.change(context.WithoutCancel(ctx), k, func(s *state) error {
		if s.Status != succeeded {
			return errUnchanged
		}
		s.Status, s.Detail, s.Outcome = failed, lost, outcome{}
		return nil
	})
	if err == nil {
		err = t.remove(k.id)
	}
	if err != nil && !errors.Is(err, errUnchanged) && !errors.Is(err, errNoTask) {
		t.logger().WarnContext(ctx, "a task whose result was lost cannot be marked", "task", k.id, "err", err)
	}
}

// ofParts says whether a Range asks for bytes in no more than so many parts. What is anything else is not heeded (RFC
// 9110, 14.2).
func ofParts(text string, most int) bool {
	text, ok := strings.CutPrefix(text, "bytes=")
	parts := strings.Split(text, ",")
	for _, part := range parts {
		from, to, dash := strings.Cut(strings.TrimSpace(part), "-")
		first, noFirst := strconv.ParseUint(from, 10, 63)
		last, noLast := strconv.ParseUint(to, 10, 63)
		switch {
		case !dash, from == "" && last == 0, from == "" && noLast != nil, from != "" && noFirst != nil, to != "" && noLast != nil, from != "" && to != "" && last < first:
			return false
		}
	}
	return ok && len(parts) <= most
}

// refusing is an http.ResponseWriter that answers in its own words where others refuse.
type refusing struct {
	http.ResponseWriter
	refusal *reply.Error // nil: nobody refused
}

var refusals = map[int]string{
	http.StatusPreconditionFailed:           "The result has another entity tag",
	http.StatusRequestedRangeNotSatisfiable: "The result is shorter, as Content-Range says",
}

// Unwrap suits http.ResponseController.
func (w *refusing) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *refusing) WriteHeader(status int) {
	if status >= 400 {
		w.refusal = &reply.Error{Status: status, Detail: refusals[status]}
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *refusing) Write(p []byte) (int, error) {
	if w.refusal != nil {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

func (w *refusing) end() {
	if w.refusal == nil {
		return
	}
	h := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "EntityEvent-Log", "EntityEvent-After", "EntityEvent-Through"} {
		h.Del(name)
	}
	reply.Refuse(w.ResponseWriter, w.refusal)
}
