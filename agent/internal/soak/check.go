package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// keys is how many records there may be at once: the data does not grow, so that nothing else should.
const keys = 2000

// removals is how many there may be in an hour: beyond a hundred the consumer holds them, as it should.
const removals = 80

// write changes records of the producer until ctx ends: forty a second with three others.
func (p *pair) write(ctx context.Context, random *rand.Rand) error {
	for {
		if err := sleep(ctx, time.Duration(50+random.IntN(100))*time.Millisecond); err != nil {
			return nil
		}
		key := fmt.Sprintf("k%d", random.IntN(keys))
		method, body := http.MethodDelete, ""
		if random.IntN(50) > 0 || p.removals.Add(1) > int64(removals*(1+time.Since(p.begun)/time.Hour)) {
			method = http.MethodPut
			body = fmt.Sprintf(`{"ListingKey":%q,"ListPrice":%d,"StandardStatus":"Active","PublicRemarks":%q}`, key, random.IntN(1e9), strings.Repeat("x", random.IntN(4000)))
		}
		p.writing.RLock()
		resp, err := p.ask(ctx, method, p.producer, "/odata/Property('"+key+"')", p.token, body)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode/100 == 2 {
				p.writes.Add(1)
			}
		} // else the producer is killed, or stopped
		p.writing.RUnlock()
	}
}

func (p *pair) ask(ctx context.Context, method string, of *process, path, token, body string) (*http.Response, error) {
	url := path
	if strings.HasPrefix(path, "/") {
		url = "http://" + of.address + path
	}
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	return p.client.Do(req)
}

// checkpoint pauses the writing and the faults until both sides are equal, which they must be soon.
func (p *pair) checkpoint(ctx context.Context) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.spoil(nil)
	defer p.spoil(faults)
	var problem error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		if problem = p.equal(ctx); problem == nil {
			return nil
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the sides are not equal after two minutes without faults: %w", problem)
}

func (p *pair) equal(ctx context.Context) error {
	want, err := p.records(ctx, p.producer)
	if err != nil {
		return err
	}
	have, err := p.records(ctx, p.consumer)
	if err != nil {
		return err
	}
	differ := 0
	for key, hash := range want {
		if have[key] != hash {
			differ++
		}
	}
	for key := range have {
		if _, there := want[key]; !there {
			differ++
		}
	}
	if differ > 0 || len(want) == 0 {
		return fmt.Errorf("%d of %d records differ", differ, len(want))
	}
	return nil
}

func (p *pair) records(ctx context.Context, of *process) (map[string]entityevent.Hash, error) {
	found := map[string]entityevent.Hash{}
	err := p.pages(ctx, of, "/odata/Property?$top=100000", func(raw json.RawMessage) error {
		var record struct{ ListingKey string }
		if err := json.Unmarshal(raw, &record); err != nil {
			return err
		}
		content, err := entityevent.Canonicalize(raw)
		found[record.ListingKey] = content.Hash
		return err
	})
	return found, err
}

// pages reads a collection to its end, past the proxies.
func (p *pair) pages(ctx context.Context, of *process, path string, each func(json.RawMessage) error) error {
	admin, err := os.ReadFile(filepath.Join(of.dir, "data", "admin.token"))
	if err != nil {
		return err
	}
	for path != "" {
		resp, err := p.ask(ctx, http.MethodGet, of, path, strings.TrimSpace(string(admin)), "")
		if err != nil {
			return err
		}
		raw, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return errors.Join(err, fmt.Errorf("%s: %s", path, resp.Status))
		}
		var page struct {
			Value []json.RawMessage
			Next  string `json:"@odata.nextLink"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return err
		}
		for _, one := range page.Value {
			if err := each(one); err != nil {
				return err
			}
		}
		if _, path, _ = strings.Cut(page.Next, "/odata/"); path != "" {
			path = "/odata/" + path
		}
	}
	return nil
}

// delivered waits until the sink has had every event of the log.
func (p *pair) delivered(ctx context.Context) error {
	p.spoil(nil)
	var problem error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		missing, events := 0, 0
		problem = p.pages(ctx, p.producer, "/odata/EntityEvent?$top=10000000", func(raw json.RawMessage) error {
			var event struct{ EntityEventSequence entityevent.Sequence }
			err := json.Unmarshal(raw, &event)
			events++
			if !p.sink.had(event.EntityEventSequence) {
				missing++
			}
			return err
		})
		if problem == nil && missing == 0 && events > 0 {
			return p.sink.problem()
		}
		problem = errors.Join(problem, fmt.Errorf("%d of %d events did not reach the other subscriber", missing, events))
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return errors.Join(problem, p.sink.problem())
}
