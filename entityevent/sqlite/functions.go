package sqlite

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/mattn/go-sqlite3"

	"github.com/resosync/resosync/entityevent/odata"
)

// register gives a connection what filters need of Go. Neither the schema nor an index may use it: people open
// the file with programs that do not know it. NULL stays NULL.
func register(c *sqlite3.SQLiteConn) error {
	flags := enums{}
	return errors.Join(
		c.RegisterFunc("odata_tolower", func(v any) any { return ofText(v, func(s string) any { return strings.ToLower(s) }) }, true),
		c.RegisterFunc("odata_toupper", func(v any) any { return ofText(v, func(s string) any { return strings.ToUpper(s) }) }, true),
		c.RegisterFunc("odata_instant", func(v any) any { return ofText(v, instantOf) }, true),
		c.RegisterFunc("odata_date", func(v any) any { return ofText(v, dateOf) }, true),
		c.RegisterFunc("odata_moment", func(v any) any { return ofText(v, momentOf) }, true),
		c.RegisterFunc("odata_number", func(v any) any { return ofText(v, numberOf) }, true),
		c.RegisterFunc("odata_flags", flags.canonical, true),
		c.RegisterFunc("odata_has", flags.has, true),
	)
}

func ofText(v any, f func(string) any) any {
	if s, ok := v.(string); ok {
		return f(s)
	}
	return nil
}

func instantOf(s string) any {
	if us, ok := odata.ParseInstant(s); ok {
		return us
	}
	return nil
}

func dateOf(s string) any {
	if _, ok := odata.ParseInstant(s + "T00:00:00Z"); ok && len(s) == len("2006-01-02") {
		return s
	}
	return nil
}

// momentOf reads a time, or a date as the midnight UTC with which it begins.
func momentOf(s string) any {
	if len(s) == len("2006-01-02") {
		s += "T00:00:00Z"
	}
	return instantOf(s)
}

// numberOf reads a JSON number.
func numberOf(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	f, _ := strconv.ParseFloat(s, 64) // beyond the range: infinite
	return f
}

// enums are the enumerations that a connection was asked for, by their texts: they are the same for every row.
type enums map[string]*odata.Enum

const maxEnums = 100

// of returns the enumeration that flagsOf wrote, nil if there is none.
func (all enums) of(text string) *odata.Enum {
	if e, ok := all[text]; ok {
		return e
	}
	var e *odata.Enum
	_ = json.Unmarshal([]byte(text), &e) // "" is none
	if len(all) == maxEnums {
		clear(all)
	}
	all[text] = e
	return e
}

func (all enums) canonical(v any, enum string) any {
	return ofText(v, func(s string) any { return all.of(enum).Canonical(s) })
}

// has says whether a JSON text, a string of flags or an array, holds all of members.
func (all enums) has(raw any, members, enum string) any {
	text, _ := raw.(string)
	if !strings.HasPrefix(text, `"`) && !strings.HasPrefix(text, `[`) {
		return nil
	}
	e := odata.Has{Left: odata.Field{Path: "f", Of: odata.Type{Kind: odata.String, Enum: all.of(enum)}}, Right: odata.Literal{Kind: odata.String, Text: members}}
	return odata.Holds(e, func(string) []byte { return []byte(text) })
}
