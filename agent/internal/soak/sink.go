package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// sink is a subscriber of another make: slow, moody, and with its own opinion of what is missing.
type sink struct {
	address string
	server  *http.Server

	mu     sync.Mutex
	seen   map[entityevent.Sequence]bool
	cursor entityevent.Sequence
	errs   []error
}

func newSink() (*sink, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		return nil, err
	}
	s := &sink{address: listener.Addr().String(), seen: map[entityevent.Sequence]bool{}}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.server.Serve(listener) }() // ends with Close
	return s, nil
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch mood := rand.IntN(30); mood {
	case 0:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case 1:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case 2:
		time.Sleep(time.Second) // it is slow
	}
	var body struct {
		Value []struct{ EntityEventSequence entityevent.Sequence }
	}
	after, aerr := strconv.ParseInt(r.Header.Get("EntityEvent-After"), 10, 64)
	through, terr := strconv.ParseInt(r.Header.Get("EntityEvent-Through"), 10, 64)
	if err := errors.Join(json.Unmarshal(raw, &body), aerr, terr); err != nil {
		s.fail(err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cursor > 0 && after > int64(s.cursor) {
		s.errs = append(s.errs, fmt.Errorf("a push after %d came where only what is through %d was acknowledged", after, s.cursor))
	}
	for _, event := range body.Value {
		s.seen[event.EntityEventSequence] = true
	}
	s.cursor = max(s.cursor, entityevent.Sequence(through))
	w.WriteHeader(http.StatusNoContent)
}

func (s *sink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, fmt.Errorf("the other subscriber: %w", err))
}

func (s *sink) had(n entityevent.Sequence) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[n]
}

func (s *sink) problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}
