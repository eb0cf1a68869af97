package session

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// held is how long a listener waits.
const held = 30 * time.Second

var errUnknown = &reply.Error{Status: http.StatusNotFound, Detail: "There is no such session: it was idle for an hour, its client has gone, or this agent was started anew. Make another one with POST /api/sessions"}

func tooMany(detail string, wait time.Duration) error {
	return &reply.Error{Status: http.StatusTooManyRequests, Wait: wait, Detail: detail}
}

func full(detail string, wait time.Duration) error {
	return &reply.Error{Status: http.StatusServiceUnavailable, Wait: wait, Detail: detail}
}

// refuse refuses a request. The log may not learn a session's token.
func (s *Sessions) refuse(w http.ResponseWriter, r *http.Request, err error) {
	r = r.WithContext(r.Context())
	r.URL = &url.URL{Path: "/api/sessions/…"}
	producer.Refuse(w, r, err, s.logger())
}

// make answers POST /api/sessions.
func (s *Sessions) make(w http.ResponseWriter, r *http.Request) {
	token, err := s.begin(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	reply.Write(w, http.StatusOK, reply.JSON, map[string]string{"token": token})
}

// admit returns who makes a session.
func (s *Sessions) admit(r *http.Request) (producer.Client, owner, error) {
	if s.Anonymous != nil && r.Header.Get("Authorization") == "" {
		return *s.Anonymous, owner{anonymous: true, address: s.address(r)}, nil
	}
	client, err := s.Gate.Admit(r, bearer.ScopeSubscribe)
	return client, owner{client: client.Name}, err
}

// begin makes a session.
func (s *Sessions) begin(r *http.Request) (token string, err error) {
	client, own, err := s.admit(r)
	if err != nil {
		return "", err
	}
	of := s.enter(client.Mask, own)
	x := &session{layer: layer{below: of}, told: of, token: rand.Text(), owner: own}
	err = s.extend(r.Context(), of.tail, anyhow)
	s.mu.Lock()
	if err == nil {
		err = s.add(x)
	}
	if err != nil {
		s.leave(of)
	}
	s.mu.Unlock()
	if err != nil {
		return "", err
	}
	if _, _, err = s.admit(r); err != nil { // it was revoked meanwhile, perhaps before there was a session to end
		s.mu.Lock()
		defer s.mu.Unlock()
		s.end(x)
		return "", err
	}
	return x.token, nil
}

// post answers POST /api/sessions/{token}/events.
func (s *Sessions) post(w http.ResponseWriter, r *http.Request, token string) {
	e, err := s.take(r, token)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	reply.Write(w, http.StatusOK, reply.JSON, e)
}

// take adds what is posted to a session.
func (s *Sessions) take(r *http.Request, token string) (event, error) {
	x := s.find(token)
	if x == nil {
		return event{}, errUnknown
	}
	var body struct {
		Type *string         `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	// As a page's fetch calls a text that is not said to be anything else.
	if err := reply.Read(r, maxBody, &body, "text/plain"); err != nil {
		return event{}, err
	}
	switch {
	case body.Type == nil || *body.Type == "" || utf8.RuneCountInString(*body.Type) > maxType:
		return event{}, &reply.Error{Status: http.StatusBadRequest, Detail: "The member type must be a text of 1 to " + strconv.Itoa(maxType) + " characters"}
	case strings.ContainsRune(*body.Type, utf8.RuneError):
		return event{}, &reply.Error{Status: http.StatusBadRequest, Detail: "The member type has half of a character"}
	case body.Data == nil:
		return event{}, &reply.Error{Status: http.StatusBadRequest, Detail: "The member data is missing: it may be any JSON"}
	}
	kind, err := json.Marshal(*body.Type)
	if err != nil {
		return event{}, err
	}
	var data bytes.Buffer
	if err := json.Compact(&data, body.Data); err != nil {
		return event{}, err
	}
	if err := s.extend(r.Context(), x.told.tail, anyhow); err != nil { // what came before it has lower numbers
		return event{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := event{kind: string(kind), data: bytes.Clone(data.Bytes())}
	if x.ended {
		return event{}, errUnknown
	}
	if err := s.room(x.owner, x, ofBytes, e.size()); err != nil {
		return event{}, err
	}
	return s.append(x, e), nil
}

// listen answers GET /api/sessions/{token}/events.
func (s *Sessions) listen(w http.ResponseWriter, r *http.Request, token string) {
	events, err := s.await(w, r, token)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", reply.JSON)
	h.Set("X-Content-Type-Options", "nosniff")
	out := bufio.NewWriterSize(w, 16<<10) // whoever does not listen any more misses it
	_ = out.WriteByte('[')
	for i, e := range events {
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.Write(e.appendTo(out.AvailableBuffer()))
	}
	_, _ = out.WriteString("]\n")
	_ = out.Flush()
}

// appendTo appends an event as it is sent.
func (e event) appendTo(b []byte) []byte {
	b = append(append(b, `{"type":`...), e.kind...)
	b = append(append(b, `,"data":`...), e.data...)
	return append(strconv.AppendInt(append(b, `,"number":`...), e.number, 10), '}')
}

// MarshalJSON implements json.Marshaler.
func (e event) MarshalJSON() ([]byte, error) { return e.appendTo(nil), nil }

// await returns what a listener has not got yet, and waits for it if there is nothing.
func (s *Sessions) await(w http.ResponseWriter, r *http.Request, token string) ([]event, error) {
	number, err := lastEvent(r)
	if err != nil {
		return nil, err
	}
	x := s.find(token)
	if x == nil {
		return nil, errUnknown
	}
	if err := s.extend(r.Context(), x.told.tail, anyhow); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if number < 0 {
		number = x.count()
	}
	events, through := x.newer(number), x.told.tail.through
	var hold *producer.Hold
	switch {
	case x.ended:
		err = errUnknown
	case len(events) > 0 || r.Method == http.MethodHead:
	default:
		if hold, err = s.hear(x, number); err != nil {
			w.Header().Set("Connection", "close")
		}
	}
	s.mu.Unlock()
	if hold == nil {
		return events, err
	}
	return s.wait(r, x, number, through, hold)
}

// wait waits for an event above a number: one of the log after a position, or one that is posted, which cuts the hold.
func (s *Sessions) wait(r *http.Request, x *session, number int64, through entityevent.Sequence, hold *producer.Hold) (events []event, err error) {
	defer s.release(x, hold)
	for {
		waited := s.Store.Wait(r.Context(), x.told.tail.view, entityevent.EventQuery{After: through, End: hold.C})
		switch {
		case waited == nil:
			if err := s.extend(r.Context(), x.told.tail, through); err != nil {
				return nil, err
			}
		case !errors.Is(waited, entityevent.ErrEnded) && !errors.Is(waited, entityevent.ErrClosed):
			return nil, waited
		}
		s.mu.Lock()
		ended := x.ended
		events, through = x.newer(number), x.told.tail.through
		s.mu.Unlock()
		switch {
		case ended:
			return nil, errUnknown
		case waited != nil || len(events) > 0:
			return events, nil
		}
	}
}

// release forgets a listener.
func (s *Sessions) release(x *session, hold *producer.Hold) {
	s.holds().End(hold)
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(x.listeners, hold); !x.ended {
		s.takes(x, ofListeners, -1)
		s.use(x)
	}
}

// lastEvent reads the number of the last event that a listener has; −1: none, it wants what comes.
func lastEvent(r *http.Request) (int64, error) {
	text := r.URL.Query().Get("last_event")
	if text == "" {
		return -1, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, &reply.Error{Status: http.StatusBadRequest, Detail: "last_event is not the number of an event"}
	}
	return int64(n), nil
}
