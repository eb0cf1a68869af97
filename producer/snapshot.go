package producer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// Snapshot reads what a client sees of a server's feed, for whoever writes it elsewhere than into an answer: the same
// records as its pages have, with the same members.
type Snapshot struct {
	server *Server
	client Client
}

// Snapshot returns the Snapshot of a client.
func (s *Server) Snapshot(client Client) *Snapshot { return &Snapshot{s, client} }

// exchange is how answers read, without anybody who asks.
func (s *Snapshot) exchange(ctx context.Context) *exchange {
	r := (&http.Request{Method: http.MethodGet}).WithContext(ctx)
	return &exchange{Server: s.server, r: r, client: s.client, view: s.View()}
}

// View is what the client may see of the store.
func (s *Snapshot) View() entityevent.View {
	return entityevent.View{Feed: s.server.feed(), Mask: s.client.Mask}
}

// Head returns the newest sequence of the log, and its name as the client knows it: that of EntityEvent-Log.
func (s *Snapshot) Head(ctx context.Context) (head entityevent.Sequence, log string, err error) {
	page, err := s.server.Store.Events(ctx, s.View(), entityevent.EventQuery{Order: entityevent.NewestFirst, Limit: 1})
	return page.Head, string(page.Log) + "/" + cmp.Or(s.client.Profile, "all"), err
}

// Resources returns the resources that there may be records of.
func (s *Snapshot) Resources(ctx context.Context) ([]string, error) {
	names, err := s.server.Schema.Resources(ctx)
	if err != nil {
		return nil, err
	}
	known, err := s.exchange(ctx).known(names)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == eventResource || !known[name] }), nil
}

// Knows says whether a resource, other than the log, is there for the client, with records or without.
func (s *Snapshot) Knows(ctx context.Context, resource string) (bool, error) {
	x := s.exchange(ctx)
	x.path.Resource = resource
	_, _, err := x.resource()
	var refused *odata.Error
	if errors.As(err, &refused) {
		return false, nil
	}
	return err == nil && resource != eventResource, err
}

// Count returns how many records of a resource the client sees.
func (s *Snapshot) Count(ctx context.Context, resource string) (int64, error) {
	return s.server.Store.Count(ctx, s.View(), entityevent.Query{Resource: resource})
}

// Lines reads a page of a resource: at most limit records with keys above after, in order of their bytes. It calls each
// with every record's key and text, one JSON object with @reso.context first (RCP-25), which is good until each returns.
// It returns how many there were; the error of each ends it.
func (s *Snapshot) Lines(ctx context.Context, resource, after string, limit int, each func(key string, line []byte) error) (int, error) {
	shape := s.exchange(ctx).shape(resource)
	line := append(appendString([]byte(`{"@reso.context":`), entityevent.Context(resource)), ',')
	begin := len(line)
	return s.page(ctx, resource, after, limit, func(r entityevent.Record) error {
		if line = shape.appendMembers(line[:begin], r.Body, nil); len(line) == begin {
			line = line[:begin-1] // all that it has is hidden
		}
		line = append(line, '}')
		err := each(r.Key, line)
		line[begin-1] = ','
		return err
	})
}

// Hashes reads a page as Lines does, and calls each with the hash of every record's content as the client sees it. It is
// that of the content itself, not the one that is stored with it.
func (s *Snapshot) Hashes(ctx context.Context, resource, after string, limit int, each func(key string, h entityevent.Hash) error) (int, error) {
	shape := s.exchange(ctx).shape(resource)
	var text []byte
	return s.page(ctx, resource, after, limit, func(r entityevent.Record) error {
		text = append(shape.appendMembers(append(text[:0], '{'), r.Body, nil), '}')
		content, err := entityevent.Canonicalize(text)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Ref, err)
		}
		return each(r.Key, content.Hash)
	})
}

func (s *Snapshot) page(ctx context.Context, resource, after string, limit int, each func(entityevent.Record) error) (n int, err error) {
	for r, err := range s.server.Store.Read(ctx, s.View(), entityevent.Query{Resource: resource, After: after, Limit: limit}) {
		if err != nil {
			return n, err
		}
		if err := each(r); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
