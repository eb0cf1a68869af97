package producer

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// A page of events goes out in pieces of this size: the usual one is smaller and has a Content-Length.
const eventFlush = 512 << 10

// writeEvents answers with a page.
func (x *exchange) writeEvents(page entityevent.Page, w window, order entityevent.Order, picked []string, count int64) {
	through := page.Through
	if order == entityevent.NewestFirst {
		through = page.Head // where such a page begins to look
	}
	x.logHeaders(page.Log, through)
	s := x.stream(http.StatusOK)
	defer s.release()
	x.context(s, "")
	if count >= 0 {
		s.text(`,"@odata.count":` + strconv.FormatInt(count, 10))
	}
	s.text(`,"value":[`)
	e := x.eventWriter(picked)
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
		if next := x.next(w, len(page.Events), page.Through.String()); next != "" {
			s.text(`,"@odata.nextLink":`)
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
	x.context(s, "/$entity")
	s.text(`,"@odata.id":"` + x.Root + "/" + odata.KeySegment(eventResource, event.Sequence.String(), false) + `",`)
	s.buf = append(x.eventWriter(picked).members(s.buf, event), '}')
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
	url      []byte // the member up to the key
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
		k.url = odata.AppendKeySegment(k.url, resource, "", k.quoted)
		k.url = k.url[:len(k.url)-1]
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
		if e.x.format.strings {
			dst = append(strconv.AppendInt(append(dst, '"'), int64(event.Sequence), 10), `",`...)
		} else {
			dst = append(strconv.AppendInt(dst, int64(event.Sequence), 10), ',')
		}
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

// plain are the bytes that stand for themselves in URLs, and in JSON.
var plain = func() (t [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~" {
		t[c] = true
	}
	return t
}()

func isPlain(key string) bool {
	for i := range len(key) {
		if !plain[key[i]] {
			return false
		}
	}
	return true
}

// address appends the URL of an event's record, unless it is longer than the standard allows. A plain key is
// too short for that.
func (e *eventWriter) address(dst []byte, k *eventKind, ref entityevent.Ref) []byte {
	before := len(dst)
	dst = append(append(append(dst, `"ResourceRecordUrl":"`...), e.x.Root...), '/')
	start := before + len(`"ResourceRecordUrl":"`)
	dst = odata.AppendKeySegment(dst, ref.Resource, ref.Key, k.quoted)
	if len(dst)-start > entityevent.MaxURL {
		return dst[:before]
	}
	return append(dst, `",`...)
}
