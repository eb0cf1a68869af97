package odata

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Options are the query of a request.
type Options struct {
	Filter    Expr     // nil without one
	Select    []string // nil: all
	OrderBy   []Order
	Top       *int64
	Skip      int64
	Count     bool
	Format    string // as written; "" without one
	SkipToken *string
	LastEvent *int64 // last_event: the same as a filter EntityEventSequence gt N
}

// Order is one field of $orderby.
type Order struct {
	Field string
	Desc  bool
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
		if seen[name] {
			return Options{}, refuse(http.StatusBadRequest, name, name+" stands twice")
		}
		seen[name] = true
		if name != "$skiptoken" { // a token may end in a space, as keys may
			value = strings.TrimSpace(value)
		}
		if err := o.set(name, value); err != nil {
			return Options{}, err
		}
	}
	return o, nil
}

func (o *Options) set(name, value string) (err error) {
	switch name {
	case "$filter":
		o.Filter, err = ParseFilter(value)
	case "$select":
		o.Select, err = parseSelect(value)
	case "$orderby":
		o.OrderBy, err = parseOrderBy(value)
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
	case "$expand", "$search", "$apply", "$compute", "$levels", "$index", "$schemaversion", "$deltatoken", "$id":
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

func parseSelect(value string) ([]string, error) {
	var fields []string
	for field := range strings.SplitSeq(value, ",") {
		field = strings.TrimSpace(field)
		if field == "*" {
			return nil, nil
		}
		if !fieldName.MatchString(field) {
			return nil, refuse(http.StatusBadRequest, "$select", fmt.Sprintf("$select names no field with %q", field))
		}
		fields = append(fields, field)
	}
	return fields, nil
}

func parseOrderBy(value string) ([]Order, error) {
	var orders []Order
	for item := range strings.SplitSeq(value, ",") {
		words := strings.Fields(item)
		if len(words) == 0 || len(words) > 2 || !fieldName.MatchString(words[0]) {
			return nil, refuse(http.StatusBadRequest, "$orderby", fmt.Sprintf("$orderby does not read %q", strings.TrimSpace(item)))
		}
		order := Order{Field: words[0]}
		if len(words) == 2 {
			switch strings.ToLower(words[1]) {
			case "asc":
			case "desc":
				order.Desc = true
			default:
				return nil, refuse(http.StatusBadRequest, "$orderby", fmt.Sprintf("$orderby is asc or desc, not %q", words[1]))
			}
		}
		orders = append(orders, order)
	}
	return orders, nil
}
