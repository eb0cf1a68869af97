package odata

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Options are the query of a request. What names fields is kept as text, for it is read in the Scope of
// the resource: by ParseFilter, ParseSelect, ParseOrderBy and ParseExpand.
type Options struct {
	Filter    *string // nil without one, as the others
	Select    *string
	OrderBy   *string
	Expand    *string
	Top       *int64
	Skip      int64
	Count     bool
	Format    string // as written; "" without one
	SkipToken *string
	LastEvent *int64 // last_event: the same as a filter EntityEventSequence gt N
}

// Order is one field of $orderby. Nulls come first, or, descending, last.
type Order struct {
	Field Field
	Desc  bool
}

// Expand is one navigation of $expand with the options in its parentheses.
type Expand struct {
	Name    string
	Options Options
}

// ParseOptions reads the query of a URL. Names with $ are read in any case, a + is a space, and other
// parameters are ignored. Its error is an *Error: 400 for an unknown, repeated or malformed option, 501
// for options of OData that are not offered.
func ParseOptions(rawQuery string) (Options, error) {
	var o Options
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(rawQuery, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return Options{}, refuse(http.StatusBadRequest, "", "The query is not percent-encoded")
		}
		if strings.HasPrefix(name, "$") {
			name = strings.ToLower(name)
		} else if name != "last_event" {
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return Options{}, refuse(http.StatusBadRequest, name, name+" is not percent-encoded")
		}
		if err := o.add(seen, name, value); err != nil {
			return Options{}, err
		}
	}
	return o, nil
}

// add sets an option that was not seen before.
func (o *Options) add(seen map[string]bool, name, value string) error {
	if seen[name] {
		return refuse(http.StatusBadRequest, name, name+" stands twice")
	}
	seen[name] = true
	if name != "$skiptoken" { // a token may end in a space, as keys may
		value = strings.TrimSpace(value)
	}
	return o.set(name, value)
}

func (o *Options) set(name, value string) (err error) {
	switch name {
	case "$filter":
		o.Filter, err = filled(name, value)
	case "$select":
		o.Select, err = filled(name, value)
	case "$orderby":
		o.OrderBy, err = filled(name, value)
	case "$expand":
		o.Expand, err = filled(name, value)
	case "$top":
		o.Top, err = natural(name, value)
	case "$skip":
		var n *int64
		if n, err = natural(name, value); err == nil {
			o.Skip = *n
		}
	case "last_event":
		o.LastEvent, err = natural(name, value)
	case "$count":
		switch strings.ToLower(value) {
		case "true":
			o.Count = true
		case "false":
		default:
			err = refuse(http.StatusBadRequest, name, "$count is true or false")
		}
	case "$format":
		if value == "" {
			err = refuse(http.StatusBadRequest, name, "$format is empty")
		}
		o.Format = value
	case "$skiptoken":
		o.SkipToken = &value
	case "$search", "$apply", "$compute", "$levels", "$index", "$schemaversion", "$deltatoken", "$id":
		err = refuse(http.StatusNotImplemented, name, "The option "+name+" is not offered")
	default:
		err = refuse(http.StatusBadRequest, name, "There is no option "+strconv.Quote(name))
	}
	return err
}

func natural(name, value string) (*int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return nil, refuse(http.StatusBadRequest, name, name+" is a whole number, 0 or more")
	}
	return &n, nil
}

func filled(name, value string) (*string, error) {
	if value == "" {
		return nil, refuse(http.StatusBadRequest, name, name+" is empty")
	}
	return &value, nil
}
