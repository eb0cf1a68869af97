package sqlite

import (
	"sync"

	"github.com/resosync/resosync/entityevent"
)

// What is known of documents takes so much memory, roughly. A larger one is read each time.
const (
	knownBytes = 1 << 20
	knownLarge = 16 << 10
)

// known are documents as the last commit left them: every request asks for its client's. Only this process has the
// file open, and all that it writes to documents goes through change.
type known struct {
	mu      sync.Mutex
	docs    map[ref]entityevent.Doc
	bytes   int
	changes uint64 // odd: a transaction is open that changes documents
}

// ref names a document.
type ref struct{ kind, id string }

func sizeOf(d entityevent.Doc) int { return len(d.Kind) + len(d.ID) + len(d.Body) + 100 }

// get returns a document, or else a mark for keep.
func (k *known) get(kind, id string) (d entityevent.Doc, ok bool, mark uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d, ok = k.docs[ref{kind, id}]
	return d, ok, k.changes
}

// keep keeps what was read after the mark was given, if nothing was changed meanwhile.
func (k *known) keep(d entityevent.Doc, mark uint64) {
	size := sizeOf(d)
	if size > knownLarge {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if mark&1 != 0 || k.changes != mark {
		return
	}
	if k.docs == nil || k.bytes+size > knownBytes {
		k.docs, k.bytes = map[ref]entityevent.Doc{}, 0
	}
	at := ref{d.Kind, d.ID}
	if _, ok := k.docs[at]; !ok {
		k.docs[at] = d
		k.bytes += size
	}
}

// change forgets a document that the open transaction writes, and keeps none until done.
func (k *known) change(kind, id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changes |= 1
	at := ref{kind, id}
	if d, ok := k.docs[at]; ok {
		delete(k.docs, at)
		k.bytes -= sizeOf(d)
	}
}

// done says that the transaction has ended, one way or the other.
func (k *known) done() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changes += k.changes & 1
}
