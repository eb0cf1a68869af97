package session

import "encoding/json"

// event is one event of a session, as it is sent.
type event struct {
	kind   string // as JSON
	data   json.RawMessage
	number int64
}

func (e event) size() int64 { return int64(len(e.kind)+len(e.data)) + overhead }

// source is a list of events, of which the newest 1,000 are there.
type source interface {
	count() int64           // how many there were
	newest(n int64) []event // the last of them, without numbers; not to be changed
}

// layer is a source that has what happened below it since it began, and between that what is added to it. So one list of
// the log's events does for all, one of what a client is told for all sessions of it, and a session has its own only.
type layer struct {
	below   source
	base    int64 // how many events were below when it began
	added   []added
	dropped int64 // how many were added before these
}

type added struct {
	after int64 // how many events were below before it
	event
}

func (l *layer) count() int64 { return l.below.count() - l.base + l.dropped + int64(len(l.added)) }

func (l *layer) newest(n int64) []event {
	events := make([]event, min(n, l.count()))
	below, j := l.below.newest(int64(len(events))), len(l.added)-1
	of := l.below.count()
	for i := len(events) - 1; i >= 0; i-- {
		if j >= 0 && l.added[j].after >= of {
			events[i] = l.added[j].event
			j--
			continue
		}
		events[i], below = below[len(below)-1], below[:len(below)-1]
		of--
	}
	return events
}

// add adds an event, and forgets those that nobody gets any more. It returns how large these were.
func (l *layer) add(e event) (forgotten int64) {
	l.added = append(l.added, added{l.below.count(), e})
	for l.added[0].after-l.base+l.dropped+1 <= l.count()-kept {
		forgotten += l.added[0].size()
		l.added[0] = added{}
		l.added = l.added[1:]
		l.dropped++
	}
	return forgotten
}
