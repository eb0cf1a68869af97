package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/retry"
)

// errJob: what a long-running task of the producer came to is of no use. Another way has to be gone.
var errJob = errors.New("the producer's task is of no use")

// The kinds of jobs.
const (
	snapshotJob = "snapshot"
	digestJob   = "digest"
)

// job is a long-running task that the producer is asked for.
type job struct {
	Type      string     `json:"type"`
	Resources []string   `json:"resources,omitempty"`
	Ranges    []keyRange `json:"ranges,omitempty"` // of a digest: these alone
}

// keyRange is the keys of a resource above After and not above To, by their bytes; an empty To: to the last.
type keyRange struct {
	Resource string `json:"resource"`
	After    string `json:"after"`
	To       string `json:"to,omitempty"`
}

// finished is a task that succeeded.
type finished struct {
	Status   string               `json:"status"`
	Sequence entityevent.Sequence `json:"sequence"` // the head before the first record was read
	Through  entityevent.Sequence `json:"through"`  // and after the last
	Log      entityevent.LogID    `json:"log"`
	Count    int64                `json:"count"` // records in the result
	Href     string               `json:"href"`
}

const (
	// jobTime is how long a task may take.
	jobTime = 6 * time.Hour
	// jobWait is the longest wait between two looks at one.
	jobWait = time.Minute
)

var errJobTime = fmt.Errorf("%w: it took more than %s", errJob, jobTime)

// begin asks for a task, once, and returns its URL. After an error other than errJob there may be one all the same,
// which the producer drops by itself.
func (c *client) begin(ctx context.Context, tasks string, j job) (string, error) {
	a, err := c.send(ofTask(ctx), http.MethodPost, tasks, j, nil)
	if err != nil {
		var r *refusal
		if errors.As(err, &r) && halts(r.Status) && !errors.Is(err, errNoTasks) {
			c.pace.noTasks(r)
		}
		if errors.As(err, &r) && (halts(r.Status) || !concernsAll(err)) || errors.Is(err, errUnexpected) {
			return "", fmt.Errorf("%w: %w", errJob, err)
		}
		return "", err
	}
	status, base, location := a.Status, a.URL, link{a.Header.Get("Location")}
	var task struct {
		Links map[string]link `json:"_links"`
	}
	// Its own link is relative, and so of the origin that was asked, whatever the producer takes its own to be.
	if a.decode(&task) == nil && task.Links["self"].Href != "" {
		location = task.Links["self"]
	}
	at := below(base, location)
	if status != http.StatusAccepted || at == "" {
		return "", fmt.Errorf("%w: %w: it was accepted without a place to look for it", errJob, errUnexpected)
	}
	return at, nil
}

// await blocks until a task is done. It calls alive whenever the producer says that it is still busy.
func (c *client) await(ctx context.Context, task string, alive func()) (finished, error) {
	ctx, cancel := context.WithTimeoutCause(ofTask(ctx), jobTime, errJobTime)
	defer cancel()
	header := http.Header{"Accept": {"application/json"}, "Prefer": {fmt.Sprintf("wait=%d", int(longPoll.Seconds()))}}
	for {
		asked := time.Now()
		a, err := c.send(ctx, http.MethodGet, task, nil, header)
		if err != nil {
			return finished{}, ofJob(err)
		}
		if a.Status == http.StatusOK {
			return a.finished()
		}
		held := strings.Contains(strings.ToLower(strings.Join(a.Header.Values("Preference-Applied"), ",")), "wait")
		wait, told := retry.After(a.Header.Get("Retry-After"), time.Now())
		a.Close()
		alive()
		if held && time.Since(asked) >= tooSoon {
			continue
		}
		if !told {
			wait = tooSoon
		}
		if err := retry.Sleep(ctx, min(max(wait, tooSoon), jobWait)); err != nil {
			return finished{}, err
		}
	}
}

func (a *answer) finished() (f finished, err error) {
	at := a.URL
	if err := a.decode(&f); err != nil {
		return f, fmt.Errorf("%w: %w", errJob, err)
	}
	href, err := at.Parse(f.Href)
	if f.Status != "succeeded" || f.Href == "" || err != nil || f.Through < f.Sequence {
		return f, fmt.Errorf("%w: %w: it neither succeeded nor failed", errJob, errUnexpected)
	}
	f.Href = href.String()
	return f, nil
}

// end lets the producer drop a task and its result. If it cannot be told it does so by itself.
func (c *client) end(ctx context.Context, task string) {
	if a, err := c.send(ofTask(ctx), http.MethodDelete, task, nil, nil); err == nil {
		a.Close()
	}
}

// ofJob tells a failure that is a task's own, or of its kind, from one that any request would have met.
func ofJob(err error) error {
	if errors.Is(err, errJob) || concernsAll(err) && !errors.Is(err, errNoTasks) {
		return err
	}
	return fmt.Errorf("%w: %w", errJob, err)
}

// path is a URL without its origin, for logs.
func path(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	return cmp.Or(u.EscapedPath(), "/")
}
