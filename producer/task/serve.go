package task

import (
	"net/http"
	"strings"

	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

var errNoTask = &reply.Error{Status: http.StatusNotFound, Detail: "There is no task here: it was never yours, or ended a day or many tasks ago. POST /tasks for another"}

// ServeHTTP implements http.Handler, for /tasks and what is below. Held requests are answered when Holds are drained.
func (t *Tasks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client, err := t.Gate.Admit(r, bearer.ScopeRead)
	if err == nil {
		err = t.open(r.Context())
	}
	if err != nil {
		t.refuse(w, r, err)
		return
	}
	path := strings.Split(strings.TrimSuffix(r.URL.EscapedPath(), "/"), "/")
	a := &asked{Tasks: t, client: client}
	if len(path) > 2 {
		if a.task, a.state, err = t.get(strings.ToLower(path[2]), client.Name); err != nil {
			t.refuse(w, r, err)
			return
		}
	}
	switch {
	case len(path) == 2 && path[1] == "tasks":
		reply.Serve(w, r, map[string]http.HandlerFunc{http.MethodPost: a.create})
	case len(path) == 3 && path[1] == "tasks":
		reply.Serve(w, r, map[string]http.HandlerFunc{http.MethodGet: a.show, http.MethodDelete: a.stop})
	case len(path) == 4 && path[1] == "tasks" && path[3] == "result":
		reply.Serve(w, r, map[string]http.HandlerFunc{http.MethodGet: a.result})
	default:
		reply.Refuse(w, &reply.Error{Status: http.StatusNotFound, Detail: "There is nothing here"})
	}
}

func (t *Tasks) refuse(w http.ResponseWriter, r *http.Request, err error) {
	producer.Refuse(w, r, err, t.logger())
}

// asked is a request of a client.
type asked struct {
	*Tasks
	client producer.Client
	task   *task // that it is about
	state  state // of the task, as it was when it was asked for
}
