package consumer

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/resosync/resosync/entityevent/retry"
)

// verifyBackoff is the wait before Verify asks again; the producer may want a longer one, which the pace keeps.
var verifyBackoff = retry.Backoff{Min: time.Second, Max: time.Minute}

// verifyEnd is how long the producer may take to hear that a digest is no longer needed, and before it to say where one
// is that it was just asked for.
const verifyEnd = 3 * time.Second

// persist asks the producer again, more and more rarely, as long as what went wrong may pass.
func persist[T any](ctx context.Context, v *verification, ask func() (T, error)) (T, error) {
	for failures := 1; ; failures++ {
		answer, err := ask()
		if !passes(err) || ctx.Err() != nil {
			v.progress.Trouble = ""
			return answer, err
		}
		v.progress.Trouble = err.Error()
		v.say(v.progress)
		if err := retry.Sleep(ctx, verifyBackoff.Delay(failures)); err != nil {
			return answer, err
		}
	}
}

// passes says whether a failure is one of the way to the producer, or of its moment, and not settled by it.
func passes(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return halts(r.Status) || r.Status == http.StatusRequestTimeout || r.Status >= 500 && r.Status != http.StatusNotImplemented
	}
	var l lost
	return errors.As(err, &l) && !errors.Is(err, errOrigin) && !errors.Is(err, errLarge)
}

// lost is an exchange that came to no answer: nobody listened, or the connection was cut.
type lost struct{ error }

func (l lost) Unwrap() error { return l.error }
