package producer

import (
	"encoding/json"
	"fmt"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// form is how the bodies of a subscription's pushes look.
type form struct {
	bare  bool   // the one event itself
	links []byte // what HAL adds to the members
	root  string // of the records' URLs; "": there are none
	keys  *Schema
}

func (s Subscription) form() form {
	f := form{bare: s.BatchEvents == 1, root: s.RecordURLs, keys: s.Schema}
	if s.Protocol == HAL {
		f.links = halMembers(s)
	}
	return f
}

func halMembers(s Subscription) []byte {
	type link struct {
		Href string `json:"href"`
	}
	links := map[string]link{}
	if s.Self != "" {
		links["self"] = link{s.Self}
	}
	text, err := json.Marshal(struct {
		Links map[string]link `json:"_links"`
		UUID  string
	}{links, s.Name})
	if err != nil {
		panic(fmt.Sprintf("links: %v", err)) // of texts
	}
	return append(text[1:len(text)-1], ',')
}

// start is how every body begins.
const bodyStart = `{"@reso.context":"` + entityevent.EventContext + `",`

// append appends the body of a push. Its events get their URLs.
func (f form) append(dst []byte, events []entityevent.Event) []byte {
	if f.root != "" {
		f.address(events)
	}
	before := len(dst)
	if f.bare {
		dst = events[0].AppendBare(dst)
	} else {
		dst = entityevent.AppendEvents(dst, events)
	}
	if len(f.links) == 0 {
		return dst
	}
	rest := len(bodyStart) + before
	dst = append(dst, f.links...)
	copy(dst[rest+len(f.links):], dst[rest:len(dst)-len(f.links)])
	copy(dst[rest:], f.links)
	return dst
}

// address gives events the URLs of their records.
func (f form) address(events []entityevent.Event) {
	for i := range events {
		e := &events[i]
		quotes := true
		if f.keys != nil {
			_, edmType, _ := f.keys.KeyField(e.Resource)
			quotes = quoted(edmType)
		}
		if url := appendRecordURL(nil, f.root, e.Ref, quotes); len(url) <= entityevent.MaxURL {
			e.URL = string(url)
		}
	}
}

// appendRecordURL appends the absolute URL of a record.
func appendRecordURL(dst []byte, root string, ref entityevent.Ref, quoted bool) []byte {
	return odata.AppendKeySegment(append(append(dst, root...), '/'), ref.Resource, ref.Key, quoted)
}
