package consumer

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// kindLoad is the kind of the documents that a load keeps: one of the feed under its name, and one of
// each resource under feed/resource.
const kindLoad = "load"

// loadState is how far a feed's load is.
type loadState struct {
	Pass     int64     `json:"pass"`              // the number of the load that began last; 0: none
	Begun    time.Time `json:"begun"`             // when
	Done     bool      `json:"done"`              // it is complete
	Loaded   bool      `json:"loaded"`            // it or an earlier one is: there is a replica to serve
	Resynced time.Time `json:"resynced,omitzero"` // when a load last began because of another log
}

// checkpoint is how far the load of one resource is.
type checkpoint struct {
	Pass    int64  `json:"pass"`
	Next    string `json:"next,omitempty"`   // the page to ask for next; empty: the first
	Linked  bool   `json:"linked,omitempty"` // the producer does not begin after a key: its nextLinks are all there is
	Records int64  `json:"records"`
	Read    bool   `json:"read"`            // the last page was read
	Sweep   bool   `json:"sweep"`           // there were records before: those that the producer lacks must go
	After   string `json:"after,omitempty"` // the last key that was swept
	Done    bool   `json:"done"`

	Snapshot snapshotAt `json:"snapshot,omitzero"`
}

func (f *Feed) loadState(ctx context.Context) (loadState, entityevent.Doc, error) {
	var s loadState
	doc, err := f.document(ctx, kindLoad, f.Name, &s)
	return s, doc, err
}

func (f *Feed) checkpoint(ctx context.Context, resource string) (checkpoint, entityevent.Doc, error) {
	var c checkpoint
	doc, err := f.document(ctx, kindLoad, f.Name+"/"+resource, &c)
	return c, doc, err
}

// document reads one; the version that it returns fits a later write, also of a new one.
func (f *Feed) document(ctx context.Context, kind, id string, into any) (entityevent.Doc, error) {
	doc, err := f.Store.Get(ctx, kind, id)
	doc.Kind, doc.ID = kind, id
	if err == nil && doc.Body != nil {
		err = json.Unmarshal(doc.Body, into)
	}
	if err != nil {
		return doc, fmt.Errorf("%s %s: %w", kind, id, err)
	}
	return doc, nil
}

// with returns the document with another body, as a commit wants it.
func with(doc entityevent.Doc, body any) entityevent.Doc {
	// The bodies are plain structs of this package: they always have a JSON text.
	doc.Body, _ = json.Marshal(body)
	return doc
}

// save writes one document in a commit of its own.
func (f *Feed) save(ctx context.Context, doc entityevent.Doc, body any) (entityevent.Doc, error) {
	_, err := f.Store.Apply(ctx, entityevent.Commit{Feed: f.Name, Docs: []entityevent.Doc{with(doc, body)}})
	if err != nil {
		return doc, fmt.Errorf("load %s: %w", doc.ID, err)
	}
	doc.Version++
	return doc, nil
}
