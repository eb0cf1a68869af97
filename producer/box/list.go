package box

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/reply"
)

// How many events a list has, and how long one answer looks for those that few clients may see.
const (
	defaultLimit = 100
	maxLimit     = 500
	lookFor      = time.Second
)

// list is one answer to GET /2.0/events.
type list struct {
	ChunkSize int                  `json:"chunk_size"`
	Next      entityevent.Sequence `json:"next_stream_position"`
	Entries   []entry              `json:"entries"`
}

type entry struct {
	Type       string  `json:"type"`
	ID         string  `json:"event_id"`
	EventType  string  `json:"event_type"`
	CreatedAt  string  `json:"created_at"`
	RecordedAt string  `json:"recorded_at"`
	SessionID  *string `json:"session_id"`
	CreatedBy  user    `json:"created_by"`
	Source     source  `json:"source"`
}

type user struct {
	Type  string `json:"type"`
	ID    string `json:"id"`
	Name  string `json:"name"`
	Login string `json:"login"`
}

type source struct {
	Type     string               `json:"type"`
	ID       string               `json:"id"`
	Sequence entityevent.Sequence `json:"EntityEventSequence"`
	Resource string               `json:"ResourceName"`
	Key      string               `json:"ResourceRecordKey"`
}

// list answers with what follows a position.
func (e *Events) list(w http.ResponseWriter, r *http.Request) {
	answer, err := e.read(r)
	if err != nil {
		e.fail(w, r, err)
		return
	}
	reply.Write(w, http.StatusOK, reply.JSON, answer)
}

func (e *Events) read(r *http.Request) (list, error) {
	client, err := e.Gate.Admit(r, bearer.ScopeSubscribe)
	if err != nil {
		return list{}, err
	}
	query := r.URL.Query()
	p, err := parsePosition(query.Get("stream_position"), position{})
	if err != nil {
		return list{}, err
	}
	limit, err := parseLimit(query)
	if err != nil {
		return list{}, err
	}
	view := e.view(client)
	if p.now {
		page, err := e.head(r.Context(), view)
		return list{Next: page.Head, Entries: []entry{}}, err
	}
	if limit == 0 {
		return list{Next: p.after, Entries: []entry{}}, nil
	}
	page, passed, err := e.page(r.Context(), view, p.after, limit)
	if err != nil {
		return list{}, err
	}
	if p.after > 0 && p.after < page.Floor {
		return list{}, &reply.Error{Status: http.StatusGone, Detail: fmt.Sprintf(
			"Events up to %d were forgotten for good, so what follows %d is not all that happened: begin anew with stream_position=0", page.Floor, p.after)}
	}
	answer := list{ChunkSize: len(page.Events), Next: p.after, Entries: make([]entry, len(page.Events))}
	if len(page.Events) > 0 || passed { // else nothing is new
		answer.Next = max(p.after, page.Through)
	}
	for i, event := range page.Events {
		answer.Entries[i] = e.entry(event)
	}
	return answer, nil
}

// page reads what follows a position. Where many events are invisible to the client it looks behind them, for a while,
// and says that it passed some.
func (e *Events) page(ctx context.Context, view entityevent.View, after entityevent.Sequence, limit int) (page entityevent.Page, passed bool, err error) {
	q := entityevent.EventQuery{After: after, Limit: limit, Times: true}
	for began := time.Now(); ; passed = true {
		page, err = e.Store.Events(ctx, view, q)
		if err != nil || len(page.Events) > 0 || !page.More || time.Since(began) >= lookFor {
			return page, passed || page.More, err
		}
		q.After = page.Through
	}
}

func (e *Events) entry(event entityevent.Event) entry {
	id, at := event.Sequence.String(), event.At.UTC().Format(time.RFC3339) // clients of that API know no fractions of seconds
	return entry{
		Type: "event", ID: id, EventType: "ENTITY_EVENT", CreatedAt: at, RecordedAt: at,
		CreatedBy: user{Type: "user", ID: e.Name, Name: e.Name, Login: e.Name},
		Source:    source{Type: "entity_event", ID: id, Sequence: event.Sequence, Resource: event.Resource, Key: event.Key},
	}
}

// head reads how far the log goes, in an empty page.
func (e *Events) head(ctx context.Context, view entityevent.View) (entityevent.Page, error) {
	return e.Store.Events(ctx, view, entityevent.EventQuery{After: math.MaxInt64, Limit: 1})
}

// position is a stream_position.
type position struct {
	after entityevent.Sequence
	now   bool // whatever the newest is
}

// parsePosition reads a stream_position.
func parsePosition(text string, absent position) (position, error) {
	switch text {
	case "", "null":
		return absent, nil
	case "now":
		return position{now: true}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strings.IndexFunc(text, func(c rune) bool { return c < '0' || c > '9' }) >= 0 {
		return position{}, &reply.Error{Status: http.StatusBadRequest,
			Detail: "stream_position is neither now, 0, nor a next_stream_position of an earlier answer"}
	}
	return position{after: entityevent.Sequence(n)}, nil
}

// parseLimit reads the limit of a list. Some clients ask for 0 events when they want the position alone.
func parseLimit(query url.Values) (int, error) {
	text := query.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, &reply.Error{Status: http.StatusBadRequest, Detail: "limit is not a number of events, from 0 to " + strconv.Itoa(maxLimit)}
	}
	return int(min(n, maxLimit)), nil
}
