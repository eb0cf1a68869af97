package entityevent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of RCP-27 on the members of an event, in characters.
const (
	MaxResource = 255
	MaxKey      = 255
	MaxURL      = 8000
)

// EventContext is the @reso.context of EntityEvents (RCP-25).
const EventContext = "urn:reso:metadata:2.0:resource:entityevent"

// Context returns the @reso.context of a resource's records (RCP-25).
func Context(resource string) string {
	return "urn:reso:metadata:2.0:resource:" + strings.ToLower(resource)
}

// EachRecord walks RESO Common Format (RCP-25): the elements of a value array, or the one bare object.
// It calls each with every record's text, which stays part of raw. contextOf is the @reso.context, ""
// without one; it is returned however late it stands in the text. A value of null is ErrInvalid.
func EachRecord(raw []byte, each func(record []byte) error) (contextOf string, err error) {
	s := &scanner{src: raw}
	multi := false
	err = s.object(func(name []byte) error {
		switch string(name) {
		case `"@reso.context"`:
			if contextOf != "" {
				return s.errorf("@reso.context stands twice")
			}
			text, err := s.text()
			if err == nil {
				contextOf = string(unquote(text))
			}
			return err
		case `"value"`:
			if c := s.space(); c != '[' {
				// A record may have a field of this name; an array is what makes it multi-valued.
				text, err := s.skip(2)
				if err == nil && string(text) == "null" {
					err = s.errorf("value is null")
				}
				return err
			}
			if multi {
				return s.errorf("value stands twice")
			}
			multi = true
			return s.list('[', ']', func() error {
				if s.space() != '{' {
					return s.errorf("want an object")
				}
				record, err := s.skip(3)
				if err != nil {
					return err
				}
				return each(record)
			})
		}
		_, err := s.skip(2)
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err == nil && !multi {
		err = each(bytes.TrimSpace(raw))
	}
	return contextOf, err
}

// ParseEvents reads EntityEvents in RESO Common Format, as pushed or as a page of the resource: a value
// array, perhaps empty, or one bare object. It accepts the names of Data Dictionary 2.0 and those of
// the earlier text of RCP-28, and sequences and keys as numbers or strings. It is all or nothing:
// ErrInvalid for a sequence that is not in 1…2^63−1, for a member that is missing, of another type, too
// long or with half a surrogate pair, and for the context of another resource; a missing context is
// accepted.
func ParseEvents(raw []byte) ([]Event, error) {
	var events []Event
	context, err := EachRecord(raw, func(record []byte) error {
		e, err := parseEvent(record)
		events = append(events, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	if context != "" && !isEventContext(context) {
		return nil, fmt.Errorf("%w: @reso.context is of another resource than EntityEvent", ErrInvalid)
	}
	return events, nil
}

func isEventContext(context string) bool {
	parts := strings.Split(strings.ToLower(context), ":")
	return len(parts) == 6 && strings.HasPrefix(strings.ToLower(context), "urn:reso:metadata:") &&
		parts[4] == "resource" && parts[5] == "entityevent"
}

func parseEvent(record []byte) (Event, error) {
	var e Event
	var numeric Sequence // by its other name, and so are these
	var numericKey, otherURL string
	s := &scanner{src: record}
	var seen [7]bool
	once := func(i int) error {
		if seen[i] {
			return s.errorf("a member of the event stands twice")
		}
		seen[i] = true
		return nil
	}
	err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case `"EntityEventSequence"`:
			if err := once(0); err != nil {
				return err
			}
			e.Sequence, err = s.sequence()
		case `"EntityEventSequenceNumeric"`:
			if err := once(5); err != nil {
				return err
			}
			numeric, err = s.sequence()
		case `"ResourceName"`:
			if err := once(1); err != nil {
				return err
			}
			e.Resource, err = s.stringValue("ResourceName", MaxResource)
		case `"ResourceRecordKey"`:
			if err := once(2); err != nil {
				return err
			}
			e.Key, err = s.stringValue("ResourceRecordKey", MaxKey)
		case `"ResourceRecordKeyNumeric"`:
			if err := once(4); err != nil {
				return err
			}
			numericKey, err = s.stringValue("ResourceRecordKeyNumeric", MaxKey)
		case `"ResourceRecordUrl"`:
			if err := once(3); err != nil {
				return err
			}
			e.URL, err = s.stringValue("ResourceRecordUrl", MaxURL)
		case `"ResourceRecordURL"`:
			if err := once(6); err != nil {
				return err
			}
			otherURL, err = s.stringValue("ResourceRecordURL", MaxURL)
		default:
			_, err = s.skip(2)
		}
		return err
	})
	differ := e.Sequence > 0 && numeric > 0 && e.Sequence != numeric
	e.Sequence, e.Key, e.URL = max(e.Sequence, numeric), cmp.Or(e.Key, numericKey), cmp.Or(e.URL, otherURL)
	switch {
	case err != nil:
		return Event{}, err
	case differ:
		return Event{}, fmt.Errorf("%w event: EntityEventSequence and EntityEventSequenceNumeric differ", ErrInvalid)
	case e.Sequence == 0:
		return Event{}, fmt.Errorf("%w event: no EntityEventSequence", ErrInvalid)
	case e.Resource == "":
		return Event{}, fmt.Errorf("%w event %d: no ResourceName", ErrInvalid, e.Sequence)
	case e.Key == "":
		return Event{}, fmt.Errorf("%w event %d: no ResourceRecordKey", ErrInvalid, e.Sequence)
	}
	if err := e.Validate(); err != nil {
		return Event{}, err
	}
	return e, nil
}

// sequence reads a positive int64, as a number or a string, exactly.
func (s *scanner) sequence() (Sequence, error) {
	text, err := s.scalar()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n <= 0 || text[0] == '+' {
		return 0, s.errorf("EntityEventSequence is not an integer from 1 to %d", int64(math.MaxInt64))
	}
	return Sequence(n), nil
}

// stringValue reads a string, or a number as its text; null is the empty string.
func (s *scanner) stringValue(name string, most int) (string, error) {
	s.space()
	start := s.pos
	text, err := s.scalar()
	if err != nil {
		return "", err
	}
	if loneSurrogate(s.src[start:s.pos]) {
		// U+FFFD in its place would name another record, and the same one for all of these.
		return "", s.errorf("%s has half a surrogate pair", name)
	}
	if len(text) > most && utf8.RuneCount(text) > most {
		return "", s.errorf("%s is longer than %d", name, most)
	}
	return string(text), nil
}

// scalar reads a string or a number and returns what it stands for; null is empty.
func (s *scanner) scalar() ([]byte, error) {
	switch c := s.space(); {
	case c == '"':
		text, err := s.text()
		if err != nil {
			return nil, err
		}
		return unquote(text), nil
	case c == '-' || c >= '0' && c <= '9':
		return s.atom()
	case c == 'n':
		_, err := s.atom()
		return nil, err
	}
	return nil, s.errorf("want a string or a number")
}

// AppendEvents appends the payload of a push (RCP-28) to dst: RESO Common Format with a value array.
func AppendEvents(dst []byte, events []Event) []byte {
	dst = append(dst, `{"@reso.context":"`+EventContext+`","value":[`...)
	for i, e := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(e.appendMembers(append(dst, '{')), '}')
	}
	return append(dst, "]}"...)
}

// AppendBare appends the payload of a push of a single event as a bare object.
func (e Event) AppendBare(dst []byte) []byte {
	dst = append(dst, `{"@reso.context":"`+EventContext+`",`...)
	return append(e.appendMembers(dst), '}')
}

// AppendJSON appends the event as a record of the EntityEvent resource.
func (e Event) AppendJSON(dst []byte) []byte {
	return append(e.appendMembers(append(dst, '{')), '}')
}

func (e Event) appendMembers(dst []byte) []byte {
	dst = append(dst, `"EntityEventSequence":`...)
	dst = strconv.AppendInt(dst, int64(e.Sequence), 10)
	dst = append(dst, `,"ResourceName":`...)
	dst = appendQuotedString(dst, e.Resource)
	dst = append(dst, `,"ResourceRecordKey":`...)
	dst = appendQuotedString(dst, e.Key)
	if e.URL != "" {
		dst = append(dst, `,"ResourceRecordUrl":`...)
		dst = appendQuotedString(dst, e.URL)
	}
	return dst
}

func appendQuotedString(dst []byte, v string) []byte {
	for i := 0; i < len(v); i++ {
		if c := v[i]; c < 0x20 || c == '"' || c == '\\' {
			return appendQuoted(dst, []byte(v))
		}
	}
	return append(append(append(dst, '"'), v...), '"')
}

// MergeBodies returns base with the top-level members of patch in place of its own (PATCH, Merge). A
// member of null is kept as null. Both are one JSON object.
func MergeBodies(base, patch json.RawMessage) (json.RawMessage, error) {
	type entry struct {
		name, value []byte
		patched     bool
	}
	var order []entry
	at := map[string]int{}
	read := func(raw []byte, patched bool) error {
		s := &scanner{src: raw}
		err := s.object(func(name []byte) error {
			value, err := s.skip(2)
			if err != nil {
				return err
			}
			key := string(unquote(name))
			if i, ok := at[key]; ok {
				if order[i].patched == patched {
					return s.errorf("the name %s stands twice in one object", name)
				}
				order[i].value, order[i].patched = value, patched
				return nil
			}
			at[key] = len(order)
			order = append(order, entry{name, value, patched})
			return nil
		})
		if err != nil {
			return err
		}
		return s.end()
	}
	if err := read(base, false); err != nil {
		return nil, err
	}
	if err := read(patch, true); err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(base)+len(patch))
	out = append(out, '{')
	for i, e := range order {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, e.name...), ':'), e.value...)
	}
	return append(out, '}'), nil
}

// Member returns the text of a record's top-level member, nil if it has none or raw is no object. A
// string's text has its quotes.
func Member(raw []byte, name string) []byte {
	var found []byte
	s := &scanner{src: raw}
	err := s.object(func(n []byte) error {
		value, err := s.skip(2)
		if string(unquote(n)) == name {
			found = value
		}
		return err
	})
	if err != nil {
		return nil
	}
	return found
}

// StringMember returns a top-level member that is a string or a number, as a key would be written; ""
// for anything else.
func StringMember(raw []byte, name string) string {
	text := Member(raw, name)
	if len(text) == 0 {
		return ""
	}
	s := &scanner{src: text}
	value, err := s.scalar()
	if err != nil {
		return ""
	}
	return string(value)
}

// EachMember calls each with the name and the text of every top-level member of one JSON object, until
// it returns an error, which it returns.
func EachMember(raw []byte, each func(name string, value []byte) error) error {
	s := &scanner{src: raw}
	err := s.object(func(n []byte) error {
		value, err := s.skip(2)
		if err != nil {
			return err
		}
		return each(string(unquote(n)), value)
	})
	if err != nil {
		return err
	}
	return s.end()
}

// Member returns the JSON text of a member of an event, as RCP-27 names it, and nil for others. It is what
// odata.Holds asks for.
func (e Event) Member(name string) []byte {
	switch name {
	case "EntityEventSequence":
		return strconv.AppendInt(nil, int64(e.Sequence), 10)
	case "ResourceName":
		return appendQuotedString(nil, e.Resource)
	case "ResourceRecordKey":
		return appendQuotedString(nil, e.Key)
	}
	return nil
}
