package box

import (
	"errors"
	"net/http"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// held is how long a long poll waits.
const held = 20 * time.Second

// What a long poll is told.
const (
	newChange = "new_change"
	reconnect = "reconnect"
	tooOften  = "max_retries"
)

// realtime answers a long poll, and closes its connection. The name of the channel is the credential: who does not know
// one learns nothing, at no cost to the store.
func (e *Events) realtime(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		w.Header().Set("Allow", allow)
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		notAllowed(w)
		return
	}
	query := r.URL.Query()
	w.Header().Set("Connection", "close")
	p, err := parsePosition(query.Get("stream_position"), position{now: true})
	if err == nil && r.Method == http.MethodHead { // who asks for the headers alone is not held: how long the answer is nobody knows
		h := w.Header()
		h.Set("Content-Type", reply.JSON)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusOK)
		return
	}
	message := ""
	if err == nil {
		message, err = e.await(r, query.Get("channel"), p)
	}
	if err != nil {
		e.fail(w, r, err)
		return
	}
	reply.Write(w, http.StatusOK, reply.JSON, struct {
		Version int    `json:"version"`
		Message string `json:"message"`
	}{1, message})
}

// await waits at a channel for what follows a position, and returns what to tell.
func (e *Events) await(r *http.Request, name string, p position) (string, error) {
	c, uses := e.channels.use(name)
	switch {
	case uses > 1+maxRetries:
		return tooOften, nil
	case c == nil:
		return reconnect, nil
	}
	hold := e.holds().Begin(c.client.Name, min(held, time.Until(c.ends)))
	if hold == nil {
		return "", &reply.Error{Status: http.StatusServiceUnavailable, Wait: 30 * time.Second,
			Detail: "Too many requests wait for news here, or too many of yours: ask again after the time in Retry-After"}
	}
	defer e.holds().End(hold)
	open := e.channels.hold(c, hold)
	var err error
	if open {
		err = e.wait(r, c.client, p, hold)
	}
	open = e.channels.release(c, hold) // its client may have been revoked meanwhile, and is told nothing then
	switch {
	case !open, errors.Is(err, entityevent.ErrEnded), errors.Is(err, entityevent.ErrClosed):
		return reconnect, nil
	case err != nil:
		return "", err
	}
	return newChange, nil
}

// wait blocks until something follows a position, or the hold is over.
func (e *Events) wait(r *http.Request, client producer.Client, p position, hold *producer.Hold) error {
	view := e.view(client)
	if p.now {
		page, err := e.head(r.Context(), view)
		if err != nil {
			return err
		}
		p.after = page.Head
	}
	return e.Store.Wait(r.Context(), view, entityevent.EventQuery{After: p.after, End: hold.C})
}
