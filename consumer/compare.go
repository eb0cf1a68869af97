package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

const (
	// timestamp is the field by which a record is compared.
	timestamp = "ModificationTimestamp"
	// examples is how many keys of a kind a report names.
	examples = 5
)

var (
	errFarBehind = errors.New("too many events wait to be applied; reconcile when the feed has caught up")
	errElsewhere = errors.New("the producer has another log than the one followed; the feed is loaded again first")
	errNotLoaded = errors.New("it is not loaded yet")
)

// comparison compares one resource, page by page in order of the key; after a page its checkpoint is
// committed with what was found. Where the producer's order is that of the keys' bytes, what the replica has
// between two keys of a page is unseen. Where it is another, the replica's keys are asked for at the end.
type comparison struct {
	*pass
	resource string
	key      keyField
	at       compareAt
	doc      entityevent.Doc
}

// compareAt is how far the comparison of a resource is.
type compareAt struct {
	Pass      int64            `json:"pass"`                // which one
	Saved     time.Time        `json:"saved,omitzero"`      // when this was written
	Way       int              `json:"way"`                 // how the producer is asked: those before it refused
	Next      string           `json:"next,omitempty"`      // the page to ask for next; empty: the first
	Linked    bool             `json:"linked,omitempty"`    // the producer does not begin after a key
	Unordered bool             `json:"unordered,omitempty"` // its order is not that of the bytes
	After     string           `json:"after,omitempty"`     // the last key that it listed
	Read      bool             `json:"read"`                // the last page was compared
	Swept     string           `json:"swept,omitempty"`     // of those here, the last key that was asked for, or compared in order
	Done      bool             `json:"done"`
	Finding   ReconcileFinding `json:"finding"`
}

func (c *comparison) open(ctx context.Context) (err error) {
	c.doc, err = c.document(ctx, kindReconcile, c.Name+"/"+c.resource, &c.at)
	return err
}

func (c *comparison) run(ctx context.Context) (err error) {
	if c.key, err = c.schema.key(ctx, c.resource); err != nil {
		return err
	}
	if !c.options.DryRun {
		if err := c.open(ctx); err != nil {
			return err
		}
	}
	if c.at.Pass != c.number {
		c.at = compareAt{Pass: c.number}
	}
	if c.at.Done {
		return nil
	}
	c.at.Finding.Error = ""
	for tries := 0; !c.at.Read; tries++ {
		if err = c.pages(ctx); err == nil {
			break
		}
		if !errors.Is(err, errLink) || tries == restarts {
			return err
		}
		anew := compareAt{Pass: c.at.Pass, Way: c.at.Way, Linked: c.at.Linked, Unordered: c.at.Unordered}
		if !c.options.DryRun {
			// What was found is set aside, and is not found again.
			anew.Finding = c.at.Finding
			anew.Finding.Compared = 0
		}
		c.at = anew
	}
	if c.at.Unordered {
		if err := c.sweep(ctx); err != nil {
			return err
		}
	}
	c.at.Done = true
	return c.commit(ctx)
}

// ways are how many there are to ask for the first page.
func (c *comparison) ways() int {
	if c.named {
		return 3 // its default order is that of the keys
	}
	return 6
}

// query returns the options of the way that the producer has not refused yet: keys and timestamps, else keys,
// else whole records; in order of the key, else in any.
func (c *comparison) query() (order, fields string) {
	if !c.named && c.at.Way < 3 {
		order = "$orderby=" + odata.EscapeQuery(c.key.Name+" asc")
	}
	switch c.at.Way % 3 {
	case 0:
		fields = "$select=" + odata.EscapeQuery(c.key.Name+","+timestamp)
	case 1:
		fields = "$select=" + odata.EscapeQuery(c.key.Name)
	}
	return order, fields
}

func (c *comparison) first() string {
	order, fields := c.query()
	if options := strings.Trim(order+"&"+fields, "&"); options != "" {
		return c.resource + "?" + options
	}
	return c.resource
}

// pages compares from the checkpoint to the last page.
func (c *comparison) pages(ctx context.Context) error {
	target := c.at.Next
	if target == "" {
		target = c.first()
	}
	asked := map[string]bool{}
	for {
		since, err := c.localHead(ctx)
		if err != nil {
			return err
		}
		next, rows, err := c.page(ctx, target)
		switch linked := target == c.at.Next; {
		case !linked && c.at.Way+1 < c.ways() && refused(err, http.StatusBadRequest, http.StatusNotImplemented):
			c.at.Way++
			target = c.first()
			continue
		case linked && refused(err, http.StatusBadRequest, http.StatusNotFound, http.StatusGone, http.StatusNotImplemented):
			c.at.Linked = c.at.Linked || strings.Contains(target, "?$filter=")
			return fmt.Errorf("%w: %w", errLink, err)
		case err != nil:
			return err
		case asked[next]:
			return fmt.Errorf("%w: nextLinks that lead in a circle", errUnexpected)
		}
		asked[next] = true
		if err := c.compare(ctx, rows, since, next == ""); err != nil {
			return err
		}
		c.at.Next, c.at.Read = next, next == ""
		c.at.Finding.Compared += int64(len(rows))
		if err := c.commit(ctx); err != nil || c.at.Read {
			return err
		}
		target = next
	}
}

// listed is what the producer lists of a record.
type listed struct {
	key      string
	modified time.Time
	timed    bool // it names its timestamp
}

// page asks for one. It returns where the next one is.
func (c *comparison) page(ctx context.Context, target string) (next string, rows []listed, err error) {
	a, err := c.client.as(forReconcile).get(ctx, target, asJSON, fmt.Sprintf("odata.maxpagesize=%d", c.PageSize))
	if err != nil {
		return "", nil, err
	}
	defer a.Close()
	next, err = entityevent.ReadPage(a.Body, c.key.Name, func(key string, record []byte) error {
		if key == "" {
			return fmt.Errorf("a record without %s, which is its key", c.key.Name)
		}
		row := listed{key: key, timed: entityevent.Member(record, timestamp) != nil}
		if t, err := time.Parse(time.RFC3339Nano, entityevent.StringMember(record, timestamp)); err == nil {
			row.modified = t.UTC().Truncate(time.Microsecond)
		}
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", errUnexpected, err)
	}
	if next, err = a.link(next); err != nil || c.at.Linked || c.at.Way >= 3 || len(rows) == 0 {
		return next, rows, err
	}
	keys := make([]string, len(rows))
	for i, row := range rows {
		keys[i] = row.key
	}
	_, fields := c.query()
	return c.steady(c.resource, c.key, next, keys, fields), rows, nil
}

// sweep asks the producer, by keys alone, for the records that the replica has.
func (c *comparison) sweep(ctx context.Context) error {
	for {
		since, err := c.localHead(ctx)
		if err != nil {
			return err
		}
		d := &differences{comparison: c, since: since, candidates: map[string]difference{}}
		q := entityevent.Query{Resource: c.resource, After: c.at.Swept, Limit: c.KeyBatch}
		for record, err := range c.Store.Read(ctx, c.view(), q) {
			if err != nil {
				return err
			}
			d.suspects = append(d.suspects, &task{Ref: record.Ref})
		}
		if len(d.suspects) == 0 {
			return nil
		}
		c.at.Swept = d.suspects[len(d.suspects)-1].Key
		if err := d.conclude(ctx); err != nil {
			return err
		}
		if err := c.commit(ctx); err != nil {
			return err
		}
	}
}

// commit writes how far the comparison is. What was found before that is set aside already.
func (c *comparison) commit(ctx context.Context) error {
	c.tell(c.resource, 0, c.at.Finding)
	if c.options.DryRun {
		return nil
	}
	c.at.Saved = time.Now().UTC()
	if _, err := c.Store.Apply(ctx, entityevent.Commit{Feed: c.Name, Docs: []entityevent.Doc{with(c.doc, c.at)}}); err != nil {
		return err
	}
	c.doc.Version++
	if c.pass.found >= settleAfter {
		return c.settle(ctx)
	}
	return nil
}
