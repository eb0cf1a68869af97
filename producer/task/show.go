package task

import (
	"net/http"
	"strconv"
	"time"

	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// When a poller should ask again: soon about a task that is new, later about one that takes its time.
const (
	soon  = time.Second
	later = 30 * time.Second
)

func pollAfter(created time.Time) time.Duration {
	return min(max(time.Since(created)/10, soon), later)
}

// self is the path of a task.
func self(id string) string { return "/tasks/" + id }

// resultOf is the path of its result.
func resultOf(id string) string { return self(id) + "/result" }

func (t *Tasks) url(id string) string { return t.Root + self(id) }

// href is the path of a task as links have it.
func (t *Tasks) href(id string) string { return reply.Href(t.Root, self(id)) }

// show answers GET /tasks/{id}.
func (a *asked) show(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Accept")
	if wait := producer.PreferWait(r.Header); wait > 0 && r.Method == http.MethodGet {
		if err := a.wait(w, r, time.Duration(wait)*time.Second); err != nil {
			a.refuse(w, r, err)
			return
		}
		h.Set("Preference-Applied", "wait="+strconv.Itoa(wait))
	}
	if a.state.Status == succeeded {
		stored, err := a.find(r.Context(), a.task)
		if err == nil && stored != nil {
			err = stored.Close()
		} else if err == nil {
			a.task, a.state, err = a.get(a.task.id, a.client.Name)
		}
		if err != nil {
			a.refuse(w, r, err)
			return
		}
	}
	hal := reply.Preferred(r.Header, reply.JSON, reply.HAL) == reply.HAL
	id, s := a.task.id, a.state.toldTo(a.client)
	switch {
	case s.Status == failed || s.Status == cancelled:
		// Pollers of long-running operations show their users error, and no other member.
		reply.Refuse(w, &reply.Error{Status: http.StatusUnprocessableEntity, Title: s.Status, Detail: s.Detail,
			Members: map[string]any{"error": map[string]any{"code": s.Status, "message": s.Detail}}})
	case s.Status == succeeded && hal:
		h.Set("Location", a.Root+resultOf(id))
		reply.Write(w, http.StatusSeeOther, reply.HAL, a.document(id, s))
	case s.Status == succeeded:
		h.Set("Location", a.url(id))
		o := s.Outcome
		reply.Write(w, http.StatusOK, reply.JSON, map[string]any{
			"status": s.Status, "sequence": o.Sequence, "through": o.Through, "log": o.Log, "count": o.Count, "href": a.href(id) + "/result",
		})
	case hal:
		document := a.document(id, s)
		document["progress"] = a.task.progress.Load()
		reply.Write(w, http.StatusOK, reply.HAL, document)
	default:
		h.Set("Location", a.url(id))
		h.Set("Retry-After", reply.Seconds(pollAfter(s.Created)))
		reply.Write(w, http.StatusAccepted, reply.JSON, map[string]any{"status": s.Status, "progress": a.task.progress.Load()})
	}
}

// toldTo is a state as its client is told it: one who by now may see something else does not get the result.
func (s state) toldTo(c producer.Client) state {
	if s.Status == succeeded && s.Outcome.Sight != sight(c) {
		s.Status, s.Detail = failed, elsewhere
	}
	return s
}

// document is a task as HAL.
func (t *Tasks) document(id string, s state) map[string]any {
	self := t.href(id)
	links := reply.Links{"self": reply.Link{Href: self}}
	document := map[string]any{"_links": links, "UUID": id, "status": s.Status}
	if o := s.Outcome; s.Status == succeeded {
		links["result"] = reply.Link{Href: self + "/result"}
		document["sequence"], document["through"], document["log"] = o.Sequence, o.Through, o.Log
		document["count"], document["href"] = o.Count, self+"/result"
	}
	return document
}

// wait holds the request until the task ended, or for so long. The client must still be admitted then.
func (a *asked) wait(w http.ResponseWriter, r *http.Request, d time.Duration) error {
	if a.state.over() {
		return nil
	}
	hold := a.holds().Begin(a.client.Name, d)
	if hold == nil {
		w.Header().Set("Connection", "close")
		return &reply.Error{Status: http.StatusServiceUnavailable, Wait: 30 * time.Second, Detail: "Too many requests wait here, or too many of yours: ask again after the time in Retry-After, or without Prefer: wait"}
	}
	defer a.holds().End(hold)
	select {
	case <-a.task.over:
	case <-hold.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler) // the client is gone
	}
	var err error
	if a.client, err = a.Gate.Admit(r, bearer.ScopeRead); err != nil {
		return err
	}
	a.task, a.state, err = a.get(a.task.id, a.client.Name)
	return err
}

// stop answers DELETE /tasks/{id}: it cancels the task, or drops its result. The task has stopped at the next record.
func (a *asked) stop(w http.ResponseWriter, r *http.Request) {
	if err := a.abandon(r.Context(), a.task, byClient); err != nil {
		a.refuse(w, r, err)
		return
	}
	reply.Write(w, http.StatusNoContent, "", nil)
}
