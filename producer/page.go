package producer

import (
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/resosync/resosync/entityevent/odata"
)

// window is what part of a collection is asked for. Pages continue by key: a $skiptoken holds the page
// size and the last key, so that nothing is skipped or repeated while the collection changes.
type window struct {
	size  int    // of a page
	top   int64  // how many more in all; math.MaxInt64: no limit
	skip  int    // before the first
	from  string // the last key of the page before; "" on the first
	limit int    // records of this page
}

// window reads $top, $skip, $skiptoken and the page size.
func (x *exchange) window() (window, error) {
	w := window{size: defaultPage, top: math.MaxInt64}
	if x.options.SkipToken != nil {
		size, from, ok := strings.Cut(*x.options.SkipToken, ".")
		n, err := strconv.Atoi(size)
		if !ok || err != nil || n < 1 || n > maxPage || from == "" {
			return w, badRequest("$skiptoken", "The $skiptoken is not one of ours: begin again without it")
		}
		w.size, w.from = n, from
	}
	if x.prefer.maxPage > 0 {
		w.size = x.prefer.maxPage
		applied(x.w.Header(), x.prefer.maxPageName, strconv.Itoa(w.size))
	}
	if x.options.Top != nil {
		w.top = *x.options.Top
		if x.options.SkipToken == nil && x.prefer.maxPage == 0 && w.top > 0 {
			w.size = int(min(w.top, maxPage)) // who names a number gets it in one page, if we serve such pages
		}
	}
	if x.options.Skip > maxPage {
		return w, notOffered("$skip", "A $skip above 5000 is not offered: filter by key, or follow the nextLink")
	}
	w.skip = int(x.options.Skip)
	w.limit = int(min(int64(w.size), w.top))
	return w, nil
}

// next returns the absolute URL of the page after the key, which ended a page of n, or "" when $top is
// used up.
func (x *exchange) next(w window, n int, key string) string {
	left := w.top
	if left != math.MaxInt64 {
		if left -= int64(n); left <= 0 {
			return ""
		}
	}
	b := strings.Builder{}
	b.WriteString(x.Root + "/" + url.PathEscape(x.path.Resource) + "?")
	for pair := range strings.SplitSeq(x.r.URL.RawQuery, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, _ := url.QueryUnescape(rawName) // ParseOptions read it
		value, _ := url.QueryUnescape(rawValue)
		switch strings.ToLower(name) {
		case "$skiptoken", "$skip", "$top":
			continue
		}
		if name == "" || name[0] != '$' && name != "last_event" {
			continue
		}
		b.WriteString(odata.EscapeQuery(name) + "=" + odata.EscapeQuery(value) + "&")
	}
	if left != math.MaxInt64 {
		b.WriteString("$top=" + strconv.FormatInt(left, 10) + "&")
	}
	b.WriteString("$skiptoken=" + odata.EscapeQuery(strconv.Itoa(w.size)+"."+key))
	return b.String()
}

// ordered reads $orderby, which may name the key field only, and says whether it is descending.
func (x *exchange) ordered(key string) (descending bool, err error) {
	orders, err := x.orderBy()
	if err != nil {
		return false, err
	}
	for i, o := range orders {
		if i > 0 || o.Field.Path != key {
			return false, notOffered("$orderby", "The only order offered is by "+key)
		}
		descending = o.Desc
	}
	return descending, nil
}

// context begins an answer: the context URL of what follows.
func (x *exchange) context(s *stream, suffix string) {
	s.text(`{"@odata.context":`)
	context := x.Root + "/$metadata#" + x.path.Resource
	if selected := x.selected(); len(selected) > 0 {
		context += "(" + strings.Join(selected, ",") + ")"
	}
	s.quoted(context + suffix)
}
