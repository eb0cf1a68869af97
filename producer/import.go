package producer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/resosync/resosync/entityevent"
)

// Limits of an import.
const (
	importRows   = 1000
	importBytes  = 1 << 20
	maxRecord    = 8 << 20 // bytes of one record
	keptRefusals = 100
)

// Summary is what became of the records of an import, so far.
type Summary struct {
	New       int       `json:"new"`
	Changed   int       `json:"changed"`
	Unchanged int       `json:"unchanged"`
	Refused   int       `json:"refused"`
	Refusals  []Refusal `json:"refusals,omitempty"` // the first 100
}

// Records is how many there were.
func (s Summary) Records() int { return s.New + s.Changed + s.Unchanged + s.Refused }

// Refusal says why a record was not stored.
type Refusal struct {
	Record int    `json:"record"` // its number in the input, from 1; in JSON Lines that of the line
	Reason string `json:"reason"`
}

// Import stores the records of r: JSON Lines with a record in each line, RESO Common Format (RCP-25), a
// JSON array, or one bare object; with gzip or without. It needs the memory of one batch, whatever the
// size of r. Records belong to the resource, or if it is "" to the one that their @reso.context names.
//
// Each batch, of at most 1000 records or 1 MB, is durable when progress is called after it; progress may
// be nil. A record that cannot be stored is refused, and the import goes on; in JSON Lines that holds for a
// line that is no JSON too. Other input that is no JSON ends the import with ErrInvalid, what came before
// it being stored. To import the same input again changes nothing.
func Import(ctx context.Context, store Store, schema *Schema, feed, resource string, r io.Reader, progress func(Summary)) (Summary, error) {
	i := &importer{ctx: ctx, store: store, schema: schema, feed: feed, resource: resource, progress: progress, keys: map[string]string{}}
	if i.progress == nil {
		i.progress = func(Summary) {}
	}
	err := i.run(r)
	if i.flushed != nil && errors.Is(err, i.flushed) {
		return i.summary, fmt.Errorf("import: %w", err)
	}
	// What was read before the input broke is stored.
	err = errors.Join(err, i.flush())
	if err != nil {
		return i.summary, fmt.Errorf("import: %w", err)
	}
	return i.summary, nil
}

// importer is an import under way.
type importer struct {
	ctx      context.Context //nolint:containedctx // of the one call of Import
	store    Store
	schema   *Schema
	feed     string
	resource string
	progress func(Summary)

	summary   Summary
	inherited string            // the resource of the first of several lines
	number    int               // of the record, or of the line
	keys      map[string]string // the key fields of resources
	changes   []entityevent.Change
	numbers   []int // of the changes
	bytes     int
	flushed   error // why a batch could not be stored: it is not tried again
}

func (i *importer) run(r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := in.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("%w gzip: %w", entityevent.ErrInvalid, err)
		}
		defer unzipped.Close()
		in = bufio.NewReaderSize(unzipped, 64<<10)
	}
	if mark, _ := in.Peek(3); string(mark) == "\uFEFF" {
		_, _ = in.Discard(len(mark)) // it is in the buffer
	}
	return i.read(&textScanner{in: in, line: 1})
}

// contextResource is the resource that a @reso.context names; "" for no context.
func (i *importer) contextResource(context string) (string, error) {
	if context == "" {
		return "", nil
	}
	at := strings.LastIndex(context, ":resource:")
	if at < 0 {
		return "", fmt.Errorf("%w: @reso.context %.100q is not urn:reso:metadata:…:resource:…", entityevent.ErrInvalid, context)
	}
	name := context[at+len(":resource:"):]
	resource, ok := i.schema.Resource(name)
	if !ok && strings.EqualFold(i.resource, name) {
		return i.resource, nil
	}
	if !ok {
		return "", fmt.Errorf("%w: @reso.context names the resource %.100q, which is not known here: name the resource of the import", entityevent.ErrInvalid, name)
	}
	return resource, nil
}

// add takes a record, of the resource that its surroundings name, into the batch.
func (i *importer) add(resource string, record []byte) error {
	c, err := i.change(resource, record)
	if err != nil {
		i.refuse(i.number, err)
		return nil
	}
	i.changes = append(i.changes, c)
	i.numbers = append(i.numbers, i.number)
	i.bytes += len(record)
	if len(i.changes) >= importRows || i.bytes >= importBytes {
		return i.flush()
	}
	return nil
}

func (i *importer) change(resource string, record []byte) (c entityevent.Change, err error) {
	own := ""
	if bytes.Contains(record, []byte("@reso.context")) {
		if own, err = i.contextResource(entityevent.StringMember(record, "@reso.context")); err != nil {
			return c, err
		}
	}
	switch {
	case resource == "" && own == "":
		resource = i.inherited
	case resource == "":
		resource = own
	case own != "" && own != resource:
		return c, fmt.Errorf("its @reso.context names %s, not %s", own, resource)
	}
	if resource == eventResource {
		return c, errors.New("events are not imported: the log is written with the records")
	}
	key, err := i.key(resource, record)
	if err != nil {
		return c, err
	}
	c = entityevent.Change{Ref: entityevent.Ref{Resource: resource, Key: key}, Op: entityevent.Put, Body: bytes.Clone(record)}
	return c, c.Ref.Validate()
}

// key returns a record's key, having looked at all of its members.
func (i *importer) key(resource string, record []byte) (string, error) {
	field, _, known := "", "", false
	if resource != "" {
		field, _, known = i.schema.KeyField(resource)
	}
	if !known {
		field, known = i.keys[resource]
	}
	configured := i.schema.Configured()
	var key []byte
	err := entityevent.EachMember(record, func(name string, value []byte) error {
		if configured && known && !i.schema.Allows(resource, name) {
			return fmt.Errorf("%s has no field %.100q", resource, name)
		}
		if !known && !configured && strings.HasSuffix(name, "Key") && !strings.Contains(name, "@") {
			field, known = name, true
		}
		if known && name == field {
			key = value
		}
		return nil
	})
	if known {
		i.keys[resource] = field // for all of this import
	}
	switch {
	case err != nil:
		return "", err
	case resource == "":
		return "", errors.New("it names no resource: give it a @reso.context, or name the resource of the import")
	case !known && configured:
		return "", fmt.Errorf("the configured metadata have no resource %s", resource)
	case !known:
		return "", errors.New("no member of it ends in Key")
	case key == nil:
		return "", fmt.Errorf("it has no %s", field)
	case key[0] == '"' && bytes.IndexByte(key, '\\') < 0 && len(key) > 2:
		return string(key[1 : len(key)-1]), nil
	}
	return bodyKey(record, field)
}

func (i *importer) refuse(number int, reason error) {
	i.summary.Refused++
	if len(i.summary.Refusals) < keptRefusals {
		i.summary.Refusals = append(i.summary.Refusals, Refusal{number, reason.Error()})
	}
}

// flush stores the batch.
func (i *importer) flush() error {
	if i.flushed != nil || len(i.changes) == 0 {
		return i.flushed
	}
	outcomes, err := i.store.Apply(i.ctx, entityevent.Commit{Feed: i.feed, Changes: i.changes})
	if err != nil {
		i.flushed = err
		return err
	}
	for n, o := range outcomes {
		switch {
		case o.Err != nil:
			i.refuse(i.numbers[n], o.Err)
		case o.Sequence == 0:
			i.summary.Unchanged++
		case o.Before.IsZero():
			i.summary.New++
		default:
			i.summary.Changed++
		}
	}
	i.changes, i.numbers, i.bytes = i.changes[:0], i.numbers[:0], 0
	i.progress(i.summary)
	return nil
}
