package producer

import (
	"bytes"
	"net/http"
	"slices"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// A page of events goes out in pieces of this size: the usual one is smaller and has a Content-Length.
const eventFlush = 512 << 10

// writeEvents answers with a page.
func (x *exchange) writeEvents(a *eventAsk, page entityevent.Page) {
	through := page.Through
	if a.order == entityevent.NewestFirst {
		through = page.Head // where such a page begins to look
	}
	x.logHeaders(page.Log, through)
	s := x.stream(http.StatusOK)
	defer s.release()
	x.context(s, a.picked, "")
	if a.count >= 0 {
		s.member("@odata.count")
		s.buf = x.appendInt(s.buf, a.count)
	}
	s.member("value")
	s.text("[")
	e := x.eventWriter(a.picked)
	for i, event := range page.Events {
		if i > 0 {
			s.buf = append(s.buf, ',')
		}
		if s.buf = append(e.members(append(s.buf, '{'), event), '}'); len(s.buf) > eventFlush {
			s.flush()
		}
	}
	s.text("]")
	if page.More {
		// Through is the last event's, or of a page that is not full where it stopped looking.
		if next := x.next(a.w, len(page.Events), page.Through.String()); next != "" {
			s.member("@odata.nextLink")
			s.quoted(next)
		}
	}
	s.text("}")
	s.end()
}

func (x *exchange) logHeaders(log entityevent.LogID, through entityevent.Sequence) {
	profile := x.client.Profile
	if profile == "" {
		profile = "all"
	}
	x.w.Header()["EntityEvent-Log"] = []string{string(log) + "/" + profile}
	x.w.Header()["EntityEvent-Through"] = []string{through.String()}
}

// writeEvent answers with one event.
func (x *exchange) writeEvent(event entityevent.Event, picked []string) {
	s := x.stream(http.StatusOK)
	defer s.release()
	x.context(s, picked, "/$entity")
	if !x.format.bare() {
		s.member("@odata.id")
		s.quoted(x.Root + "/" + odata.KeySegment(eventResource, event.Sequence.String(), false))
	}
	before := len(s.buf)
	s.buf = separated(s.buf)
	start := len(s.buf)
	if s.buf = x.eventWriter(picked).members(s.buf, event); len(s.buf) == start {
		s.buf = s.buf[:before]
	}
	s.text("}")
	s.end()
}

// eventWriter writes events as records, with the URLs of what they name.
type eventWriter struct {
	x                        *exchange
	sequence, name, key, url bool // which are written
	kind                     *eventKind
	kinds                    map[string]*eventKind
}

// eventKind is what the events of one resource have in common.
type eventKind struct {
	resource string
	name     []byte // the member
	url      []byte // the member, up to the key
	end      string // what follows it
	quoted   bool   // the key in the URL
}

func (x *exchange) eventWriter(picked []string) *eventWriter {
	picks := func(field string) bool { return picked == nil || slices.Contains(picked, field) }
	return &eventWriter{x: x, sequence: picks(sequenceField), name: picks(resourceField), key: picks(keyField), url: picks(urlField),
		kinds: map[string]*eventKind{}}
}

func (e *eventWriter) of(resource string) *eventKind {
	if e.kind != nil && e.kind.resource == resource {
		return e.kind
	}
	k := e.kinds[resource]
	if k == nil {
		_, edmType, _ := e.x.Schema.KeyField(resource)
		k = &eventKind{resource: resource, quoted: quoted(edmType), end: `)",`}
		k.name = append(appendString([]byte(`"ResourceName":`), resource), ',')
		k.url = append(append([]byte(`"ResourceRecordUrl":"`), e.x.Root...), '/')
		k.url = bytes.TrimSuffix(odata.AppendKeySegment(k.url, resource, "", k.quoted), []byte(")"))
		if k.quoted {
			k.url, k.end = k.url[:len(k.url)-1], `')",`
		}
		e.kinds[resource] = k
	}
	e.kind = k
	return k
}

// members appends the members of an event.
func (e *eventWriter) members(dst []byte, event entityevent.Event) []byte {
	start := len(dst)
	k := e.of(event.Resource)
	plain := isPlain(event.Key)
	if e.sequence {
		dst = append(dst, `"EntityEventSequence":`...)
		dst = append(e.x.appendInt(dst, int64(event.Sequence)), ',')
	}
	if e.name {
		dst = append(dst, k.name...)
	}
	switch {
	case !e.key:
	case plain:
		dst = append(dst, `"ResourceRecordKey":"`...)
		dst = append(append(dst, event.Key...), `",`...)
	default:
		dst = append(dst, `"ResourceRecordKey":`...)
		dst = append(appendString(dst, event.Key), ',')
	}
	switch {
	case !e.url:
	case plain:
		dst = append(append(append(dst, k.url...), event.Key...), k.end...)
	default:
		dst = e.address(dst, k, event.Ref)
	}
	if len(dst) > start {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// unreserved are the bytes that stand for themselves in URLs, and in JSON.
var unreserved = func() (set [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~") {
		set[c] = true
	}
	return set
}()

func isPlain(key string) bool {
	for i := range len(key) {
		if !unreserved[key[i]] {
			return false
		}
	}
	return true
}

// address appends the URL of an event's record, unless it is longer than the standard allows, which that of
// a plain key never is.
func (e *eventWriter) address(dst []byte, k *eventKind, ref entityevent.Ref) []byte {
	before := len(dst)
	dst = append(dst, `"ResourceRecordUrl":"`...)
	start := len(dst)
	dst = appendRecordURL(dst, e.x.Root, ref, k.quoted)
	if len(dst)-start > entityevent.MaxURL {
		return dst[:before]
	}
	return append(dst, `",`...)
}
