package consumer

import (
	"net/url"
	"strings"

	"github.com/resosync/resosync/entityevent/odata"
)

// steady replaces a nextLink that counts rows by one that begins after the last key of its page: when a
// record goes from a page that was read already, counting skips another. Links that name a position are
// kept. The keys are those of the page, in its order; fields is the $select of the first one.
func (f *Feed) steady(resource string, key keyField, next string, keys []string, fields string) string {
	u, err := url.Parse(next)
	if err != nil || !u.Query().Has("$skip") {
		return next
	}
	for i := 1; i < len(keys); i++ {
		if !key.ascending(keys[i-1], keys[i]) {
			return next // not in an order that we know
		}
	}
	last := keys[len(keys)-1]
	if key.Quoted {
		last = odata.Quote(last)
	}
	link := f.client.root + "/" + resource + "?$filter=" + odata.EscapeQuery(key.Name+" gt "+last) +
		"&$orderby=" + odata.EscapeQuery(key.Name+" asc")
	if fields != "" {
		link += "&" + fields
	}
	return link
}

// ascending says whether a key comes before another, whether by bytes, by letters of either case, or as a
// number.
func (k keyField) ascending(a, b string) bool {
	if !k.Quoted && len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b || strings.ToLower(a) < strings.ToLower(b)
}
