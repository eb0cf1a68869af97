// Package task does what takes long at a client's request, and keeps the outcome until it is fetched: a snapshot of all
// that the client may see, and the digest of it.
//
// It promises that a task that was accepted is done, fails or is cancelled, over restarts too, and says which; that what a
// result holds is exact once its reader has followed the log from the result's sequence through its through; and that
// nobody gets another's.
package task

import (
	_ "embed"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent/seal"
	"github.com/resosync/resosync/producer"
)

// OpenAPI describes what Tasks answer and what they post. It is a document of its own, and a part of the one that the
// agent serves.
//
//go:embed openapi.json
var OpenAPI []byte

// Tasks are the tasks of one feed, under the path /tasks. All fields are required but those that have a default.
type Tasks struct {
	Store  producer.Store
	Gate   producer.Gate
	Server *producer.Server // of the feed
	// Clients returns the client of this name as it is configured now: what a task of his may see. It is false for one
	// that is no longer there; his tasks are cancelled.
	Clients   func(name string) (producer.Client, bool)
	Folder    string                  // for results; made when it is needed. Other results in it are removed.
	Root      string                  // absolute public URL, without a slash at its end
	Holds     *producer.Holds         // of the requests that wait for the end of a task; may be shared. Default: its own.
	Callbacks producer.CallbackDialer // where results may be posted
	Seal      seal.Key
	UserAgent string       // of posts. Default resosync.
	Logger    *slog.Logger // Default: discards.

	most   int // tasks that are kept of a client. Default maxKept.
	own    producer.Holds
	begun  sync.Once
	wake   chan struct{} // something is to be done
	disk   func(folder string) (free, total uint64, err error)
	create func(path string) (writable, error)

	mu     sync.Mutex // of what follows and of the tasks' states; nobody waits for the store with it
	loaded bool
	tasks  map[string]*task
	client *http.Client // of posts
}

// Limits of tasks.
const (
	atATime     = 2 // that run
	maxOpen     = 20
	maxKept     = 1000           // of a client, ended ones too
	keepFor     = 24 * time.Hour // after the end
	maxAttempts = 3
)
