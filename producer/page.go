package producer

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/resosync/resosync/entityevent/odata"
)

// window is what part of a collection is asked for. Pages continue by place: a $skiptoken holds the page
// size and where the last record stood, so that nothing is skipped or repeated while the collection
// changes.
type window struct {
	size  int    // of a page
	top   int64  // how many more in all; math.MaxInt64: no limit
	skip  int    // before the first
	from  string // where the page before ended, in the words of who wrote it; "" on the first
	limit int    // records of this page
}

// window reads $top, $skip, $skiptoken and the page size.
func (x *exchange) window() (window, error) {
	w := window{size: defaultPage, top: math.MaxInt64}
	if x.options.SkipToken != nil {
		var ok bool
		if w.size, w.from, ok = x.resume(*x.options.SkipToken); !ok {
			return w, errToken()
		}
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
	most := int64(maxSkip)
	if x.path.Resource == eventResource {
		most = maxPage // its log is followed by number
	}
	if x.options.Skip > most {
		return w, badRequest("$skip", "A $skip above "+strconv.FormatInt(most, 10)+" is not offered: follow the nextLink, or filter by the key or ModificationTimestamp of the last record")
	}
	w.skip = int(x.options.Skip)
	w.limit = int(min(int64(w.size), w.top))
	return w, nil
}

func errToken() error {
	return badRequest("$skiptoken", "The $skiptoken is not one of ours, or belongs to another query: begin again without it")
}

// A $skiptoken is base64url of: tokenVersion, a check sum of the rest and of the query that it continues,
// the page size, and where the page ended.
const tokenVersion = 2

var tokenCoding = base64.RawURLEncoding.Strict()

// token returns the $skiptoken of what follows a place in a collection.
func token(of string, o odata.Options, size int, from string) string {
	raw := binary.BigEndian.AppendUint32([]byte{tokenVersion}, tokenSum(of, o, size, from))
	raw = append(binary.BigEndian.AppendUint16(raw, uint16(size)), from...)
	return tokenCoding.EncodeToString(raw)
}

func (x *exchange) resume(token string) (size int, from string, ok bool) {
	raw, err := tokenCoding.DecodeString(token)
	if err != nil || len(raw) < 8 || raw[0] != tokenVersion {
		return 0, "", false
	}
	size, from = int(binary.BigEndian.Uint16(raw[5:])), string(raw[7:])
	return size, from, size >= 1 && size <= maxPage && binary.BigEndian.Uint32(raw[1:]) == tokenSum(x.collectionPath(true), x.options, size, from)
}

// tokenSum covers what decides which record is next. It keeps mistakes away, not attacks: whoever makes a
// token up may as well filter.
func tokenSum(of string, o odata.Options, size int, from string) uint32 {
	sum := fnv.New32a()
	for _, part := range []*string{&of, o.Filter, o.OrderBy, &from} {
		if part != nil {
			_, _ = sum.Write([]byte(*part))
		}
		_, _ = sum.Write([]byte{0})
	}
	_, _ = sum.Write([]byte(strconv.Itoa(size)))
	return sum.Sum32()
}

// collectionPath is the path of the collection that is asked for, below the service root. A key in it may be
// written in quotes or without.
func (x *exchange) collectionPath(quoted bool) string {
	p := x.path
	if p.Key == nil {
		return url.PathEscape(p.Resource)
	}
	path := odata.KeySegment(p.Resource, *p.Key, quoted)
	for _, segment := range p.Rest {
		path += "/" + url.PathEscape(segment)
	}
	return path
}

// next returns the URL of the page after n records, of which the last stood at from: "" if that is all
// that is asked for. It keeps the options of the request.
func (x *exchange) next(w window, n int, from string) string {
	left := w.top
	if left != math.MaxInt64 {
		if left -= int64(n); left <= 0 {
			return ""
		}
	}
	b := strings.Builder{}
	b.WriteString(x.Root + "/" + x.collectionPath(x.path.KeyQuoted) + "?")
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
		text := odata.EscapeQuery(value)
		if strings.Contains(rawValue, "+") { // who writes blanks so may have no room for longer ones
			text = strings.ReplaceAll(text, "%20", "+")
		}
		b.WriteString(odata.EscapeQuery(name) + "=" + text + "&")
	}
	if left != math.MaxInt64 {
		b.WriteString("$top=" + strconv.FormatInt(left, 10) + "&")
	}
	b.WriteString("$skiptoken=" + token(x.collectionPath(true), x.options, w.size, from))
	return b.String()
}

// begin begins an answer: the context URL of what follows, as Property/$entity.
func (x *exchange) begin(s *stream, context string) {
	s.text("{")
	if !x.format.bare() {
		s.member("@odata.context")
		s.quoted(x.Root + "/$metadata#" + context)
	}
}

// context begins an answer of the path's resource, with the fields of $select.
func (x *exchange) context(s *stream, picked []string, suffix string) {
	list := ""
	if picked != nil {
		list = "(" + strings.Join(picked, ",") + ")"
	}
	x.begin(s, x.path.Resource+list+suffix)
}
