package task

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/resosync/resosync/entityevent/retry"
)

const (
	postTimeout = 15 * time.Second
	postWithin  = 8 << 20 // of a digest in a post; a larger one has to be fetched
)

// posts returns the tasks whose outcome is to be posted.
func (t *Tasks) posts(due func(time.Time) bool) []*task {
	all := t.all()
	t.mu.Lock()
	defer t.mu.Unlock()
	room := maxPosting
	for _, k := range all {
		if k.posting {
			room--
		}
	}
	var posts []*task
	for _, k := range all {
		c := k.state.Callback
		if k.version == 0 || c == nil || c.Done || k.posting || room == 0 || !k.state.over() || !due(c.NextAt) {
			continue
		}
		k.posting = true
		room--
		posts = append(posts, k)
	}
	return posts
}

// post posts the outcome of a task once. After a 2xx it is not posted again.
func (t *Tasks) post(ctx context.Context, k *task) {
	defer func() {
		t.mu.Lock()
		k.posting = false
		t.mu.Unlock()
		t.signal()
	}()
	s, _ := t.look(k)
	answer, err := t.send(ctx, k, s)
	if err == nil && answer.status == 0 && ctx.Err() != nil {
		return // it ended with the agent, and tells nothing
	}
	if err != nil {
		t.logger().ErrorContext(ctx, "the outcome of a task cannot be posted", "task", k.id, "client", s.Client, "err", err)
	}
	t.settle(ctx, k, func(s *state) error {
		c := s.Callback
		if c.Done {
			return errUnchanged
		}
		c.Attempts++
		c.Done = err != nil || answer.status >= 200 && answer.status <= 299 || answer.status == http.StatusGone
		c.NextAt = time.Now().Add(max(retry.Backoff{}.Delay(c.Attempts), answer.wait)).UTC()
		return nil
	})
	if answer.status < 200 || answer.status > 299 {
		t.logger().WarnContext(ctx, "the outcome of a task was not taken", "task", k.id, "client", s.Client, "status", answer.status)
	}
}

var (
	errClient   = errors.New("the client is no longer in the configuration")
	errUnusable = errors.New("the callback URL is not usable")
)

// answered is what a post came back with.
type answered struct {
	status int           // 0: nothing
	wait   time.Duration // Retry-After; 0: none
}

// send sends the outcome of a task. An error says that this cannot be done, now or later.
func (t *Tasks) send(ctx context.Context, k *task, s state) (answered, error) {
	id := k.id
	client, ok := t.Clients(s.Client)
	if !ok {
		return answered{}, errClient
	}
	target, err := t.Seal.Open(s.Callback.URL, urlOf(id))
	if err != nil {
		return answered{}, err
	}
	token := ""
	if s.Callback.Token != "" {
		if token, err = t.Seal.Open(s.Callback.Token, tokenOf(id)); err != nil {
			return answered{}, err
		}
	}
	body, err := t.message(ctx, k, s.toldTo(client))
	if err != nil {
		t.logger().ErrorContext(ctx, "the result of a task cannot be read, and is posted later", "task", id, "client", s.Client, "err", err)
		return answered{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return answered{}, errUnusable // the error repeats the URL
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/hal+json, application/problem+json;q=0.9, application/json;q=0.8")
	r.Header.Set("User-Agent", cmp.Or(t.UserAgent, "resosync"))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := t.poster().Do(r)
	if err != nil {
		return answered{}, nil //nolint:nilerr // no answer may be one the next time; the error has the URL in it
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	wait, _ := retry.After(resp.Header.Get("Retry-After"), time.Now())
	return answered{resp.StatusCode, min(wait, keepFor)}, nil
}

// poster is the client of posts.
func (t *Tasks) poster() *http.Client {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client == nil {
		t.client = t.Callbacks.Client()
	}
	return t.client
}

// message is what is posted: the task, with the digest in it if that is what was asked for. A result that was lost, as is
// found here, is told as a failure.
func (t *Tasks) message(ctx context.Context, k *task, s state) ([]byte, error) {
	var result json.RawMessage
	if s.Status == succeeded {
		var err error
		if result, err = t.posted(ctx, k, s); errors.Is(err, errDamaged) {
			if s, _ = t.look(k); s.Status == succeeded { // that it was lost is not stored
				s.Status, s.Detail = failed, lost
			}
		} else if err != nil {
			return nil, err
		}
	}
	document := t.document(k.id, s)
	if s.Detail != "" {
		document["detail"] = s.Detail
	}
	if result != nil {
		document["result"] = result
	}
	return json.Marshal(document)
}

// posted reads what a post has of a result: a digest, unless it is large. errDamaged: the result is lost.
func (t *Tasks) posted(ctx context.Context, k *task, s state) (json.RawMessage, error) {
	stored, err := t.find(ctx, k)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return nil, errDamaged
	}
	defer stored.Close()
	if s.Type != digests || stored.size > postWithin {
		return nil, nil
	}
	text, err := io.ReadAll(stored.plain())
	if errors.Is(err, errDamaged) {
		t.logger().ErrorContext(ctx, "the result of a task is damaged", "task", k.id, "err", err)
		t.lose(ctx, k)
	}
	return text, err
}
