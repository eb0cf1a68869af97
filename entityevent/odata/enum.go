package odata

import (
	"slices"
	"strconv"
	"strings"
)

// Enum is an enumeration.
type Enum struct {
	Name    string // qualified
	Flags   bool   // a value is several members: A,B
	Members []string
	Values  []int64 // of Members, each another; nil: they are not known
}

// Canonical returns the text of a value in the one form in which all texts of that value are compared. Of flags
// these are all members that it has, once each, as they are declared; if their values are known also those that are
// made up of others: Weekend beside Saturday,Sunday. What is no member stands at the end.
func (e *Enum) Canonical(text string) string {
	if e == nil || !e.Flags {
		return text
	}
	members, others := e.read(text)
	slices.Sort(others)
	return strings.Join(append(members, slices.Compact(others)...), ",")
}

// read returns the members of the value that a text names, by names or numbers, and what in it is no member.
func (e *Enum) read(text string) (members, others []string) {
	parts := []string{text}
	if e.Flags {
		parts = Literal{Text: text}.Members()
	}
	named := make([]bool, len(e.Members))
	var bits int64
	for _, part := range parts {
		i := slices.Index(e.Members, part)
		n, ok := e.number(part)
		switch {
		case i >= 0 && e.Values != nil:
			bits |= e.Values[i]
			named[i] = true
		case i >= 0:
			named[i] = true
		case ok:
			bits |= n
			if i := slices.Index(e.Values, n); i >= 0 {
				named[i] = true
			}
		default:
			others = append(others, part)
		}
	}
	for i, name := range e.Members {
		if e.Flags && e.Values != nil { // 0 is a member only alone
			v := e.Values[i]
			named[i] = v&bits == v && (v != 0 || named[i] && bits == 0)
		}
		if named[i] {
			members = append(members, name)
		}
	}
	return members, others
}

// number reads the number of a member, or the sum of members of flags.
func (e *Enum) number(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, false
	}
	var sum int64
	for _, v := range e.Values {
		if v == n {
			return n, true
		}
		if v&n == v {
			sum |= v
		}
	}
	return n, e.Flags && n != 0 && sum == n
}
