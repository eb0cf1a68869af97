package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// imported is the answer to an import.
type imported struct {
	Files   []producer.Summary `json:"files"`             // of each input that was read, the last perhaps in part
	Removed []producer.Removal `json:"removed,omitempty"` // of each resource that was replaced
	Error   string             `json:"error,omitempty"`   // what ended it
}

// serveImport imports the body, RESO Common Format, into the feed that is written to; of a multipart body
// each part, and files says how many there are, for a multipart reader does not tell a body that is cut off
// from one that ends. With replace the resources become equal to it, and with allow_deletes whatever that removes.
func (a *agent) serveImport(w http.ResponseWriter, r *http.Request) {
	n, next, err := inputs(r)
	if err != nil {
		reply.Refuse(w, &reply.Error{Status: http.StatusBadRequest, Detail: err.Error()})
		return
	}
	var result imported
	if err := a.importAll(r.Context(), &result, r.URL.Query(), n, next); errors.Is(err, producer.ErrReplacing) {
		reply.Refuse(w, &reply.Error{Status: http.StatusConflict, Detail: err.Error()})
		return
	} else if err != nil {
		result.Error = err.Error()         // beside what was imported before it
		_, _ = io.Copy(io.Discard, r.Body) // an answer to a body that is cut off may not arrive
	}
	reply.Write(w, http.StatusOK, reply.JSON, result)
}

// inputs returns how many inputs a request has, and what yields them one by one.
func inputs(r *http.Request) (n int, next func() (io.Reader, error), err error) {
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/mixed" {
		return 1, func() (io.Reader, error) { return r.Body, nil }, nil
	}
	n, err = strconv.Atoi(r.URL.Query().Get("files"))
	if err != nil || n < 1 || parameters["boundary"] == "" {
		return 0, nil, errors.New("a multipart body needs its boundary, and the parameter files with the number of its parts")
	}
	parts := multipart.NewReader(r.Body, parameters["boundary"])
	return n, func() (io.Reader, error) {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return part, err
	}, nil
}

func (a *agent) importAll(ctx context.Context, result *imported, q url.Values, n int, next func() (io.Reader, error)) error {
	schema, resource := a.schemas[entityevent.Local], q.Get("resource")
	load := func(in io.Reader) (producer.Summary, error) {
		return producer.Import(ctx, a.store, schema, entityevent.Local, resource, in, nil)
	}
	finish := func() ([]producer.Removal, error) { return nil, nil }
	if isSet(q, "replace") {
		replacement, err := producer.BeginReplacement(ctx, a.store, schema, entityevent.Local, resource)
		if err != nil {
			return err
		}
		defer replacement.Close()
		load = func(in io.Reader) (producer.Summary, error) { return replacement.Import(in, nil) }
		finish = func() ([]producer.Removal, error) {
			return replacement.Finish(producer.ReplaceOptions{AllowDeletes: isSet(q, "allow_deletes")})
		}
	}
	for range n {
		in, err := next()
		if err != nil {
			return fmt.Errorf("the request ended after %d of %d files: %w", len(result.Files), n, err)
		}
		summary, err := load(in)
		result.Files = append(result.Files, summary)
		if err != nil {
			return err
		}
	}
	var err error
	result.Removed, err = finish()
	return err
}
