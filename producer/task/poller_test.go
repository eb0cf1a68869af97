package task_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// handled answers the requests of a client by a handler of this process. Redirects are followed, as clients do.
type handled struct{ http.Handler }

// Do implements policy.Transporter.
func (h handled) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer alice")
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	answer := w.Result()
	answer.Request = r
	return answer, nil
}

type snapshotDone struct {
	Status string
	Count  int
	Href   string
}

// begin begins a task, and returns a poller of it.
func begin(t *testing.T, p runtime.Pipeline, body string) *runtime.Poller[snapshotDone] {
	q, err := runtime.NewRequest(t.Context(), http.MethodPost, root+"/tasks")
	if err != nil {
		t.Fatal(err)
	}
	if err := runtime.MarshalAsJSON(q, map[string]string{"type": body}); err != nil {
		t.Fatal(err)
	}
	answer, err := p.Do(q)
	if err != nil || answer.StatusCode != http.StatusAccepted {
		t.Fatal(err, answer)
	}
	poller, err := runtime.NewPoller[snapshotDone](answer, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return poller
}

// TestAzurePoller: a poller of long-running operations follows Location and Retry-After to the end, or to the failure.
func TestAzurePoller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(3, 10)
		turns := r.store.hold()
		r.run()
		p := runtime.NewPipeline("resosync", "v1", runtime.PipelineOptions{}, &policy.ClientOptions{Transport: handled{r.handler}})
		poller := begin(t, p, "snapshot")
		if answer, err := poller.Poll(t.Context()); err != nil || poller.Done() || answer.StatusCode != http.StatusAccepted {
			t.Fatal(err, poller.Done())
		}
		go func() {
			time.Sleep(20 * time.Second)
			close(turns)
		}()
		begun := time.Now()
		done, err := poller.PollUntilDone(t.Context(), &runtime.PollUntilDoneOptions{Frequency: time.Second})
		if err != nil || done.Status != "succeeded" || done.Count != 3 {
			t.Fatal(err, done)
		}
		if took := time.Since(begun); took < 20*time.Second || took > 25*time.Second {
			t.Errorf("it took %s", took)
		}
		q, err := runtime.NewRequest(t.Context(), http.MethodGet, root+done.Href)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := p.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := runtime.Payload(answer); err != nil || strings.Count(string(body), "\n") != 3 {
			t.Errorf("%v: %s", err, body)
		}

		r.tasks.SetDisk(func() uint64 { return 0 }, func() uint64 { return 1 << 40 })
		poller = begin(t, p, "snapshot")
		_, err = poller.PollUntilDone(t.Context(), &runtime.PollUntilDoneOptions{Frequency: time.Second})
		var refused *azcore.ResponseError
		if !errors.As(err, &refused) || refused.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("a task that failed: %v", err)
		}
	})
}
