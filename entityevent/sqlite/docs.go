package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"

	"github.com/resosync/resosync/entityevent"
)

const (
	docQuery  = `SELECT version, CAST(body AS BLOB) FROM docs WHERE kind = ? AND id = ?`
	docsQuery = `SELECT id, version, CAST(body AS BLOB) FROM docs WHERE kind = ? ORDER BY id`
	docInsert = `INSERT INTO docs (kind, id, version, body) VALUES (?, ?, 1, ?) ON CONFLICT DO NOTHING`
	docUpdate = `UPDATE docs SET version = version + 1, body = ? WHERE kind = ? AND id = ? AND version = ?`
	docDelete = `DELETE FROM docs WHERE kind = ? AND id = ? AND version = ?`
)

// Get implements entityevent.Docs.
func (s *Store) Get(ctx context.Context, kind, id string) (entityevent.Doc, error) {
	d, ok, mark := s.known.get(kind, id)
	if ok {
		return d, s.alive(ctx)
	}
	d = entityevent.Doc{Kind: kind, ID: id}
	err := s.read(ctx, func(c *conn) error {
		found, err := c.one(docQuery, func(row []driver.Value) {
			d.Version = integer(row[0])
			d.Body, _ = row[1].([]byte)
		}, kind, id)
		if err == nil && found && !json.Valid(d.Body) {
			err = errDamaged
		}
		return err
	})
	if err != nil {
		return entityevent.Doc{}, fmt.Errorf("document %s %q: %w", kind, id, err)
	}
	s.known.keep(d, mark)
	return d, nil
}

// List implements entityevent.Docs.
func (s *Store) List(ctx context.Context, kind string) ([]entityevent.Doc, error) {
	var docs []entityevent.Doc
	err := s.read(ctx, func(c *conn) error {
		sound := true
		err := c.query(ctx, docsQuery, func(row []driver.Value) bool {
			d := entityevent.Doc{Kind: kind, ID: str(row[0]), Version: integer(row[1])}
			d.Body, _ = row[2].([]byte)
			docs = append(docs, d)
			sound = json.Valid(d.Body)
			return sound
		}, kind)
		if err == nil && !sound {
			err = errDamaged
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("documents %s: %w", kind, err)
	}
	return docs, nil
}

func checkDocs(docs []entityevent.Doc) error {
	for _, d := range docs {
		switch {
		case d.Kind == "" || d.ID == "":
			return fmt.Errorf("%w: a document without kind or id", entityevent.ErrInvalid)
		case d.Version < 0:
			return fmt.Errorf("%w: document %s %q: version %d", entityevent.ErrInvalid, d.Kind, d.ID, d.Version)
		case d.Body != nil && !json.Valid(d.Body):
			return fmt.Errorf("%w: document %s %q is not JSON", entityevent.ErrInvalid, d.Kind, d.ID)
		}
	}
	return nil
}

// writeDocs compares and sets; the first that fails refuses the whole call.
func (t *tx) writeDocs(docs []entityevent.Doc) error {
	for _, d := range docs {
		held, err := t.writeDoc(d)
		if err == nil && !held {
			err = entityevent.ErrConflict
		}
		if err != nil {
			return fmt.Errorf("document %s %q: %w", d.Kind, d.ID, err)
		}
	}
	return nil
}

// writeDoc says whether the document stood at the version that the writer read.
func (t *tx) writeDoc(d entityevent.Doc) (bool, error) {
	t.known.change(d.Kind, d.ID)
	switch {
	case d.Body == nil && d.Version == 0:
		found, err := t.one(docQuery, func([]driver.Value) {}, d.Kind, d.ID)
		return !found, err
	case d.Body == nil:
		n, err := t.exec(docDelete, d.Kind, d.ID, d.Version)
		return n == 1, err
	case d.Version == 0:
		n, err := t.exec(docInsert, d.Kind, d.ID, text(d.Body))
		return n == 1, err
	}
	n, err := t.exec(docUpdate, text(d.Body), d.Kind, d.ID, d.Version)
	return n == 1, err
}
