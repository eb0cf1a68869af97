package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// maxQuery is how long a URL may become by the keys in it, in bytes.
const maxQuery = 7 << 10

// task is one record that must be brought up to date.
type task struct {
	entityevent.Ref
	items []entityevent.Item  // the events that name it, which it settles
	was   entityevent.Setback // if it had been set aside

	verdict  verdict
	body     []byte               // if found; part of an answer of the round
	since    entityevent.Sequence // the local head before the producer was asked
	err      error                // if not judged: why; if wrong: what is wrong with it
	proof    proof                // if absent
	opposed  bool                 // if absent: the producer lacked others too in its first answer and showed them in its second
	released bool                 // if absent: the brake held the removal and does so no more
}

// proof is the kind of read by which a record was found to be absent.
type proof uint8

const (
	byRead  proof = iota // 404 or 410 for it alone
	byQuery              // a query for its key that is empty
)

// verdict is what the producer's answers prove about a record.
type verdict uint8

const (
	unjudged verdict = iota // nothing
	found                   // this is its content
	absent                  // it is no longer there, or not for us: asked twice
	wrong                   // there is an answer that cannot be its content
)

// errSlow concerns the records that were asked for: they may be what the producer cannot get through.
var errSlow = errors.New("the producer took too long")

// errCrowded: other errands took all the turns. It says nothing about any record.
var errCrowded = errors.New("its turn to be sent did not come")

// came is the key of the context's flag that a request was sent.
type came struct{}

// fetcher asks for records and keeps the answers that they are part of until close.
type fetcher struct {
	*Feed
	answers  []*answer
	patience time.Duration    // for one request with its repeats, beyond what the producer asks to wait. Default: any.
	alive    bool             // the producer answered something sensible
	offered  map[string]error // by resource: why its 404s prove nothing; nil if they do
	fields   string           // appended to queries: "&$select=…". Default: all fields.
	errand   errand           // Default forInbox.
}

func (f *fetcher) close() {
	for _, a := range f.answers {
		a.Close()
	}
	f.answers = nil
}

func (f *fetcher) get(ctx context.Context, target string) (*answer, error) {
	var sent atomic.Bool
	if f.patience > 0 {
		ctx = context.WithValue(ctx, came{}, &sent)
		// Its turn may take a while to come.
		limit := f.patience + time.Duration(4/f.Rate*float64(time.Second)) + max(0, time.Until(f.client.pace.halted()))
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errSlow)
		defer cancel()
	}
	a, err := f.client.as(f.errand).get(ctx, target, asJSON, fmt.Sprintf("odata.maxpagesize=%d", f.PageSize))
	if err == nil {
		f.answers, f.alive = append(f.answers, a), true
	}
	switch {
	case !errors.Is(err, errSlow):
	case !f.client.pace.halted().IsZero():
		err = &refusal{Status: http.StatusTooManyRequests} // not slow: it wants no requests
	case !sent.Load():
		err = errCrowded
	}
	return a, err
}

// fetch judges tasks, all of one resource. Its error concerns all requests to the producer; what
// concerns a record or its resource stands in the tasks.
func (f *fetcher) fetch(ctx context.Context, tasks []*task) error {
	resource := tasks[0].Resource
	since, err := f.localHead(ctx)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		t.verdict, t.since, t.err, t.opposed = unjudged, since, nil, false
	}
	key, err := f.schema.key(ctx, resource)
	if err == nil && len(tasks) > 1 {
		err = f.many(ctx, key, tasks)
	} else if err == nil {
		err = f.each(ctx, key, tasks)
	}
	if err == nil {
		err = f.confirm(ctx, key, tasks)
	}
	if err != nil && !concernsAll(err) {
		for _, t := range tasks {
			if t.verdict == unjudged && t.err == nil {
				t.err = err
			}
		}
		return nil
	}
	return err
}

// concernsAll tells a failure that any request would have met from one of a record or resource.
func concernsAll(err error) bool {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r.Status == http.StatusUnauthorized || halts(r.Status) || r.Status == http.StatusBadGateway ||
			r.Status == http.StatusGatewayTimeout
	case errors.Is(err, errSlow), errors.Is(err, errUnexpected), errors.Is(err, errLarge), errors.Is(err, errOrigin), errors.Is(err, entityevent.ErrInvalid):
		return false
	}
	return true
}

// many asks for several records at once, in the best way that the producer understands, and reads
// singly what did not come back.
func (f *fetcher) many(ctx context.Context, key keyField, tasks []*task) error {
	resource := tasks[0].Resource
	w, proven := f.tongue.get(resource)
	malformed := false // the literals may be, because their type has changed
	for ; w < bySingle; w++ {
		bodies, err := f.batch(ctx, w, key, tasks)
		if refused(err, http.StatusBadRequest, http.StatusNotImplemented) || errors.Is(err, errUnfiltered) {
			malformed = malformed || refused(err, http.StatusBadRequest)
			if proven {
				break // it understands the way but not these keys
			}
			continue
		}
		if refused(err, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong) || errors.Is(err, errLarge) {
			half := len(tasks) / 2
			if half > 1 {
				return errors.Join(f.many(ctx, key, tasks[:half]), f.many(ctx, key, tasks[half:]))
			}
			break
		}
		if err != nil {
			if concernsAll(err) {
				return err
			}
			break // perhaps one record does this: ask for each
		}
		f.tongue.learn(resource, w)
		opposed := false
		for _, t := range tasks {
			if body, ok := bodies[t.Key]; ok {
				t.verdict, t.body = found, body
			} else if err := f.single(ctx, key, t, false); err != nil || errors.Is(t.err, errSlow) {
				return err
			} else {
				opposed = opposed || t.verdict == found
			}
		}
		for _, t := range tasks {
			t.opposed = opposed && t.verdict == absent
		}
		return nil
	}
	if malformed {
		renewed, changed, err := f.schema.renew(ctx, resource, key)
		if err != nil {
			return err
		}
		if changed {
			return f.many(ctx, renewed, tasks)
		}
	}
	if err := f.each(ctx, key, tasks); err != nil {
		return err
	}
	if w == bySingle && f.alive {
		f.tongue.learn(resource, bySingle)
	}
	return nil
}

// each reads records singly, and gives up on the rest when the first few all fail, or one takes too
// long. If the producer refuses the literal of a key, its type may have changed.
func (f *fetcher) each(ctx context.Context, key keyField, tasks []*task) error {
	judged := 0
	for i, t := range tasks {
		err := f.single(ctx, key, t, true)
		if err == nil && refused(t.err, http.StatusBadRequest) {
			var changed bool
			if key, changed, err = f.schema.renew(ctx, t.Resource, key); changed {
				t.err = nil
				err = f.single(ctx, key, t, true)
			}
		}
		if err != nil {
			return err
		}
		switch {
		case t.verdict != unjudged:
			judged++
		case errors.Is(t.err, errSlow):
			return nil
		case judged == 0 && i == 2:
			for _, rest := range tasks[i+1:] {
				rest.err = t.err
			}
			return nil
		}
	}
	return nil
}

// batch returns what the producer has of the tasks' records, by key. Without an error the answer was
// complete: what is not in it did not match.
func (f *fetcher) batch(ctx context.Context, w way, key keyField, tasks []*task) (map[string][]byte, error) {
	keys := make([]string, len(tasks))
	for i, t := range tasks {
		keys[i] = t.Key
	}
	filter := odata.In(key.Name, keys, key.Quoted)
	if w == byOr {
		filter = odata.AnyOf(key.Name, keys, key.Quoted)
	}
	wanted := make(map[string]bool, len(tasks))
	for _, k := range keys {
		wanted[k] = true
	}
	bodies := make(map[string][]byte, len(tasks))
	err := f.query(ctx, tasks[0].Resource+"?$filter="+odata.EscapeQuery(filter)+f.fields, key.Name, func(k string, body []byte) error {
		if !wanted[k] {
			return errUnfiltered
		}
		bodies[k] = body
		return nil
	})
	return bodies, err
}

// errUnfiltered: what is not in such an answer may exist all the same.
var errUnfiltered = errors.New("records that were not asked for, or without their key, as if $filter were ignored")

// query walks every record of a query to the end of its nextLinks.
func (f *fetcher) query(ctx context.Context, target, key string, each func(key string, body []byte) error) error {
	asked := map[string]bool{}
	for target != "" {
		if asked[target] {
			return fmt.Errorf("%w: nextLinks that lead in a circle", errUnexpected)
		}
		asked[target] = true
		a, err := f.get(ctx, target)
		if err != nil {
			return err
		}
		next, err := entityevent.ReadPage(a.Body, key, each)
		if err != nil {
			return fmt.Errorf("%w: %w", errUnexpected, err)
		}
		if target, err = a.link(next); err != nil {
			return err
		}
	}
	return nil
}

// single reads one record by its key. A record that is not there was asked for before, or is asked for
// twice: one answer alone removes nothing. Its error concerns all requests.
func (f *fetcher) single(ctx context.Context, key keyField, t *task, twice bool) error {
	a, err := f.get(ctx, odata.KeySegment(t.Resource, t.Key, key.Quoted))
	var r *refusal
	if errors.As(err, &r) && (r.Status == http.StatusNotFound || r.Status == http.StatusGone) {
		if !r.Proper {
			return f.proveAbsent(ctx, key, t, err)
		}
		f.alive = true
		if err := f.serves(ctx, key, t.Resource); err != nil {
			if concernsAll(err) {
				return err
			}
			t.err = err
			return nil
		}
		if twice {
			return f.single(ctx, key, t, false)
		}
		t.verdict, t.proof = absent, byRead
		return nil
	}
	if err != nil {
		if concernsAll(err) {
			return err
		}
		t.err = err
		return nil
	}
	f.read(a, key, t)
	return nil
}

// read takes the one record of an answer.
func (f *fetcher) read(a *answer, key keyField, t *task) {
	var records [][]byte
	_, err := entityevent.EachRecord(a.Body, func(record []byte) error {
		records = append(records, record)
		return nil
	})
	switch {
	case err != nil:
		t.verdict, t.err = wrong, err
	case len(records) != 1:
		t.err = fmt.Errorf("%w: %d records instead of one", errUnexpected, len(records))
	case entityevent.StringMember(records[0], key.Name) != t.Key:
		t.verdict, t.err = wrong, fmt.Errorf("the producer answered with a record of another %s", key.Name)
	default:
		t.verdict, t.body = found, records[0]
	}
}

// cut takes the next records to ask for at once: of one resource, as many as a request may name, and
// those that failed before apart from the others.
func (f *fetcher) cut(tasks []*task) (chunk, rest []*task) {
	w, _ := f.tongue.get(tasks[0].Resource)
	size := 0
	for i, t := range tasks {
		size += len(odata.EscapeQuery(odata.Quote(t.Key))) + len(",")
		if w == byOr {
			size += 40 // " or " and the name of the key
		}
		first := tasks[0]
		if i > 0 && (i == f.KeyBatch || t.Resource != first.Resource || (len(t.items) == 0) != (len(first.items) == 0) || size > maxQuery) {
			return tasks[:i], tasks[i:]
		}
	}
	return tasks, nil
}

// localHead returns the newest number of the local log: what is fetched after it may be written if the
// record did not change since.
func (f *Feed) localHead(ctx context.Context) (entityevent.Sequence, error) {
	p, err := f.Store.Events(ctx, f.view(), entityevent.EventQuery{Order: entityevent.NewestFirst, Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("read the local head: %w", err)
	}
	return p.Head, nil
}
