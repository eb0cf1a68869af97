package producer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"

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
	Line   int    `json:"line"`   // the one in which it begins
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
//
// A resource whose name cannot stand in the metadata, or is another's in another case, is refused with ErrInvalid.
//
// The key of a resource that the schema does not know is metadata.ChooseKey's, and stays so; a record
// that leaves a choice is refused.
func Import(ctx context.Context, store Store, schema *Schema, feed, resource string, r io.Reader, progress func(Summary)) (Summary, error) {
	if err := checkResource(ctx, schema, resource); err != nil {
		return Summary{}, fmt.Errorf("import: %w", err)
	}
	i := &importer{ctx: ctx, store: store, schema: schema, feed: feed, resource: resource, progress: progress, keys: map[string]string{}}
	return i.input(r)
}

// input imports all of r.
func (i *importer) input(r io.Reader) (Summary, error) {
	if i.progress == nil {
		i.progress = func(Summary) {}
	}
	i.summary, i.inherited, i.at = Summary{}, "", place{}
	err := i.run(r)
	if i.flushed != nil && errors.Is(err, i.flushed) {
		return i.summary, fmt.Errorf("import: %w", err)
	}
	// What was read before the input broke is stored.
	for len(i.changes) > 0 && i.flushed == nil {
		err = errors.Join(err, i.flush())
	}
	if err == nil {
		err = i.schema.Grow(i.ctx) // else the first who asks by types would wait for all of it
	}
	if err != nil {
		return i.summary, fmt.Errorf("import: %w", err)
	}
	return i.summary, nil
}

// place is where a record stands in the input: its number, and its line.
type place struct{ record, line int }

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
	at        place             // of the record
	keys      map[string]string // the key fields of resources, for all of this import
	grown     bool              // the schema knows all that was stored before
	changes   []entityevent.Change
	places    []place // of the changes
	bytes     int
	flushed   error // why a batch could not be stored: it is not tried again

	replacement *Replacement // what this is part of; nil: of none
}

func (i *importer) run(r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := in.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("%w gzip: %w", entityevent.ErrInvalid, err)
		}
		defer unzipped.Close()
		in = bufio.NewReaderSize(unzipping{unzipped}, 64<<10)
	}
	if mark, _ := in.Peek(3); string(mark) == "\uFEFF" {
		_, _ = in.Discard(len(mark)) // it is in the buffer
	}
	return i.read(&textScanner{in: in, line: 1})
}

// unzipping tells what is wrong with gzip from what is wrong with the JSON in it.
type unzipping struct{ in *gzip.Reader }

func (u unzipping) Read(p []byte) (int, error) {
	n, err := u.in.Read(p)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("%w gzip: it is cut off, or something else follows its end", entityevent.ErrInvalid)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		err = fmt.Errorf("%w gzip: it is damaged, or something else follows its end", entityevent.ErrInvalid)
	}
	return n, err
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
	if i.flushed != nil {
		return i.flushed
	}
	if err != nil {
		i.refuse(i.at, err)
		i.keepOld(c.Ref)
		return nil
	}
	c.Op, c.Body = entityevent.Put, bytes.Clone(record)
	i.replacement.mark(&c)
	i.changes = append(i.changes, c)
	i.places = append(i.places, i.at)
	i.bytes += len(record)
	if len(i.changes) >= importRows || i.bytes >= importBytes {
		return i.flush()
	}
	return nil
}

// change returns the reference of a record, also of one that is refused, if it can be told.
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
	if c.Ref = (entityevent.Ref{Resource: resource, Key: key}); c.Ref.Validate() != nil {
		return entityevent.Change{}, c.Ref.Validate()
	}
	return c, i.check(resource, record)
}

// reasonsShown is how many wrong fields of a record are told.
const reasonsShown = 3

// check holds a record to the schema.
func (i *importer) check(resource string, record []byte) error {
	if half := halfCharacter(record); half != "" {
		return fmt.Errorf("it has %s, which is half of a character", half)
	}
	faults, err := i.schema.faults(resource, entityevent.Put, record)
	if err != nil || len(faults) == 0 {
		return err
	}
	var reasons []string
	for n, f := range faults {
		if n == reasonsShown {
			reasons = append(reasons, fmt.Sprintf("and %d more", len(faults)-n))
			break
		}
		reasons = append(reasons, f.Reason)
	}
	return errors.New(strings.Join(reasons, "; "))
}

func (i *importer) refuse(at place, reason error) {
	i.summary.Refused++
	if len(i.summary.Refusals) < keptRefusals {
		i.summary.Refusals = append(i.summary.Refusals, Refusal{at.record, at.line, reason.Error()})
	}
}

// keepOld keeps what the store has of a record that was refused: it is not missing in the input.
func (i *importer) keepOld(ref entityevent.Ref) {
	switch {
	case i.replacement == nil:
	case ref.Key == "":
		i.replacement.unread++ // it may be any record
	default:
		c := entityevent.Change{Ref: ref, Op: entityevent.Merge, Body: nothing}
		i.replacement.mark(&c)
		i.changes = append(i.changes, c)
		i.places = append(i.places, i.at)
	}
}

// nothing is merged into a record to mark it.
var nothing = []byte("{}")

// flush stores the batch.
func (i *importer) flush() error {
	if i.flushed != nil || len(i.changes) == 0 {
		return i.flushed
	}
	if err := i.replacement.begin(); err != nil {
		i.flushed = err
		return err
	}
	outcomes, err := i.store.Apply(i.ctx, entityevent.Commit{Feed: i.feed, Changes: i.changes})
	if err != nil {
		i.flushed = err
		return err
	}
	changes, places := i.changes, i.places
	i.changes, i.places, i.bytes = nil, nil, 0
	stored := map[string]bool{}
	for n, o := range outcomes {
		c := changes[n]
		if c.Op == entityevent.Merge { // it marks a record that was refused before
			continue
		}
		stored[c.Resource] = stored[c.Resource] || o.Err == nil
		switch {
		case o.Err != nil:
			i.refuse(places[n], o.Err)
			i.keepOld(c.Ref)
		case o.Sequence == 0:
			i.summary.Unchanged++
		case o.Before.IsZero():
			i.summary.New++
		default:
			i.summary.Changed++
		}
	}
	i.progress(i.summary)
	return i.keepKeys(stored)
}

// keepKeys tells the schema by which keys records were stored, so that it stays by them.
func (i *importer) keepKeys(stored map[string]bool) error {
	if i.schema.Configured() {
		return nil
	}
	for resource, some := range stored {
		key := i.keys[resource]
		if !some || i.schema.knows(resource) {
			continue
		}
		if err := i.schema.keep(i.ctx, resource, key); err != nil {
			i.flushed = err
			return err
		}
	}
	return nil
}
