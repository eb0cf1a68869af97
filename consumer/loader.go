package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/retry"
)

// restarts is how often one run begins a resource anew because a nextLink no longer worked.
const restarts = 3

// loader copies one resource: out of a snapshot, or page by page in order of the key. What is next is fetched while
// something is written; after it its checkpoint is committed, so that a restart goes on there.
type loader struct {
	*Feed
	resource string
	pass     int64
	named    bool // the producer sends a log id: its pages are in order of the key anyway

	key      keyField
	at       checkpoint
	doc      entityevent.Doc
	unsorted bool // the producer refused $orderby
}

func (l *loader) run(ctx context.Context) (err error) {
	if l.key, err = l.schema.key(ctx, l.resource); err != nil {
		return err
	}
	if l.at, l.doc, err = l.checkpoint(ctx, l.resource); err != nil {
		return err
	}
	if l.at.Pass != l.pass {
		n, err := l.Store.Count(ctx, l.view(), entityevent.Query{Resource: l.resource})
		if err != nil {
			return err
		}
		l.at = checkpoint{Pass: l.pass, Sweep: n > 0}
	}
	if err := l.snapshot(ctx); err != nil {
		return err
	}
	for tries := 0; !l.at.Read; tries++ {
		if err = l.pages(ctx); err == nil {
			break
		}
		if !errors.Is(err, errLink) || tries == restarts {
			return err
		}
		l.at = checkpoint{Pass: l.pass, Sweep: l.at.Sweep, Linked: l.at.Linked, Snapshot: l.at.Snapshot}
	}
	if l.at.Sweep {
		if err := l.sweep(ctx); err != nil {
			return err
		}
	}
	l.at.Done = true
	if l.doc, err = l.save(ctx, l.doc, l.at); err == nil {
		l.Logger.Info("resource loaded", "resource", l.resource, "records", l.at.Records, "snapshot", l.at.Snapshot.Task != "")
	}
	return err
}

// errLink: the producer no longer knows a nextLink of its own.
var errLink = errors.New("the producer no longer accepts its nextLink")

// first is where a resource begins.
func (l *loader) first() string {
	target := l.resource
	if !l.named && !l.unsorted {
		target += "?$orderby=" + odata.EscapeQuery(l.key.Name+" asc")
	}
	return target
}

// pages reads from the checkpoint to the last page.
func (l *loader) pages(ctx context.Context) error {
	target := l.at.Next
	if target == "" {
		target = l.first()
	}
	page := l.ask(ctx, target)
	defer func() { page.close() }()
	asked := map[string]bool{}
	for {
		<-page.ready
		err := page.err
		switch linked := page.target == l.at.Next; {
		case !linked && !l.unsorted && !l.named && refused(err, http.StatusBadRequest, http.StatusNotImplemented):
			l.unsorted = true
			page.close()
			page = l.ask(ctx, l.first())
			continue
		case linked && refused(err, http.StatusBadRequest, http.StatusNotFound, http.StatusGone, http.StatusNotImplemented):
			l.at.Linked = l.at.Linked || strings.Contains(page.target, "?$filter=")
			return fmt.Errorf("%w: %w", errLink, err)
		case err != nil:
			return err
		}
		next, records, err := l.read(page)
		if err != nil {
			return err
		}
		if asked[next] {
			return fmt.Errorf("%w: nextLinks that lead in a circle", errUnexpected)
		}
		asked[next] = true
		this := page
		if next != "" {
			page = l.ask(ctx, next)
		}
		at := l.at
		at.Next, at.Read, at.Records = next, next == "", at.Records+int64(len(records))
		err = l.write(ctx, this.mark, records, len(this.answer.Body), at)
		if next == "" {
			return err
		}
		this.close()
		if err != nil {
			return err
		}
	}
}

// page is one that was asked for.
type page struct {
	target string
	since  entityevent.Sequence // the local head before it was asked for
	mark   *mark
	ready  chan struct{} // closed when answer and err stand
	answer *answer
	err    error
	close  func() // waits until it is ready and gives back what it holds
}

// ask begins to fetch a page.
func (l *loader) ask(ctx context.Context, target string) *page {
	ctx, cancel := context.WithCancel(ctx)
	p := &page{target: target, ready: make(chan struct{})}
	p.mark = l.touched.watch()
	p.close = sync.OnceFunc(func() {
		cancel()
		<-p.ready
		l.touched.forget(p.mark)
		if p.answer != nil {
			p.answer.Close()
		}
	})
	if p.since, p.err = l.localHead(ctx); p.err != nil {
		close(p.ready)
		return p
	}
	go func() {
		defer close(p.ready)
		p.answer, p.err = l.client.as(forLoad).get(ctx, target, asJSON, fmt.Sprintf("odata.maxpagesize=%d", l.PageSize))
	}()
	return p
}

// read walks a page. It returns where the next one is, and the records, which stay part of the answer.
func (l *loader) read(p *page) (next string, records []entityevent.Change, err error) {
	records = make([]entityevent.Change, 0, l.PageSize)
	next, err = entityevent.ReadPage(p.answer.Body, l.key.Name, func(key string, record []byte) error {
		if key == "" {
			return fmt.Errorf("%w: a record without %s, which is its key", errUnexpected, l.key.Name)
		}
		records = append(records, entityevent.Change{
			Ref: entityevent.Ref{Resource: l.resource, Key: key}, Body: record, UnchangedSince: &p.since, Pass: l.pass,
		})
		return nil
	})
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", errUnexpected, err)
	}
	if next, err = p.answer.link(next); err != nil || l.at.Linked || l.unsorted || len(records) == 0 {
		return next, records, err
	}
	keys := make([]string, len(records))
	for i, r := range records {
		keys[i] = r.Key
	}
	return l.steady(l.resource, l.key, next, keys, ""), records, nil
}

// write commits records in even parts, and after them the checkpoint that they lead to, together with what could not
// be stored: a load that is cut between the two reads them again, and finds nothing to change. Size is how many bytes
// they are.
func (l *loader) write(ctx context.Context, m *mark, records []entityevent.Change, size int, at checkpoint) error {
	read := len(records)
	records, aside, err := l.doubt(ctx, records)
	if err != nil {
		return err
	}
	parts := max(1, (size+commitBytes-1)/commitBytes, (len(records)+commitRows-1)/commitRows)
	each := max(1, (len(records)+parts-1)/parts)
	for part := range slices.Chunk(records, each) {
		changes, outcomes, err := l.touched.load(ctx, l.Store, m, entityevent.Commit{Feed: l.Name, Changes: part})
		if err != nil {
			return err
		}
		aside = append(aside, l.invalid(changes, outcomes)...)
	}
	c := entityevent.Commit{Feed: l.Name, Aside: aside, Docs: []entityevent.Doc{with(l.doc, at)}}
	if _, err := l.Store.Apply(ctx, c); err != nil {
		return err
	}
	l.at = at
	l.doc.Version++
	l.state.loaded(l.resource, read)
	l.stats.loaded.Add(int64(read))
	return nil
}

// doubt sets aside, for the applier to look again, what a producer without a log id answers with an older
// content than ours, or what was removed here: the page may be from a replica behind its log.
func (l *loader) doubt(ctx context.Context, records []entityevent.Change) (kept []entityevent.Change, aside []entityevent.Setback, err error) {
	if l.named {
		return records, nil, nil
	}
	kept = records[:0]
	for part := range slices.Chunk(records, commitRows) {
		keys := make([]string, len(part))
		for i, c := range part {
			keys[i] = c.Key
		}
		have := map[string]entityevent.Record{}
		for record, err := range l.Store.Read(ctx, l.view(), entityevent.Query{Resource: l.resource, Keys: keys, Gone: true}) {
			if err != nil {
				return nil, nil, fmt.Errorf("read %s: %w", l.resource, err)
			}
			record.Body = nil
			have[record.Key] = record
		}
		for _, c := range part {
			reason, wait := "", looksBack[0]
			if local, known := have[c.Key]; known && local.Hash.IsZero() {
				reason, wait = "removed here and there at the producer", secondLook
			} else if known {
				if content, err := entityevent.Canonicalize(c.Body); err == nil { // else the store refuses it
					reason = older(content, local)
				}
			}
			if reason == "" {
				kept = append(kept, c)
				continue
			}
			t := task{Ref: c.Ref}
			aside = append(aside, t.look(wait, reason))
		}
	}
	return kept, aside, nil
}

// invalid sets aside what the store can never accept. What was refused because it changed meanwhile is
// newer than the page, or has an event that will be.
func (l *loader) invalid(changes []entityevent.Change, outcomes []entityevent.Outcome) []entityevent.Setback {
	var aside []entityevent.Setback
	for i, o := range outcomes {
		ref := changes[i].Ref
		if !errors.Is(o.Err, entityevent.ErrInvalid) {
			continue
		}
		if len(ref.Key) > entityevent.MaxKey {
			l.Logger.Warn("a record whose key is too long is not copied", "resource", ref.Resource)
			continue
		}
		t := task{Ref: ref}
		aside = append(aside, t.poisoned(o.Err))
	}
	return aside
}

// pause remembers when resources that failed to load are tried again.
type pause struct {
	mu       sync.Mutex
	failures int
	until    time.Time
	err      error
}

func (p *pause) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures++
	p.err = err
	p.until = time.Now().Add(loadBackoff.Delay(p.failures))
}

var loadBackoff = retry.Backoff{Min: 10 * time.Second, Max: 15 * time.Minute}

func (p *pause) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures, p.until, p.err = 0, time.Time{}, nil
}

// left returns the failure that is waited for, nil if it is time to try.
func (p *pause) left() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Until(p.until) <= 0 {
		return nil
	}
	return p.err
}
