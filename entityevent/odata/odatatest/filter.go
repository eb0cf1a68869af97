package odatatest

import (
	"slices"
	"strconv"
	"strings"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent/odata"
)

// Filter makes texts that odata.ParseFilter reads in Scope, with now() in some.
func Filter() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		w := writer{T: t, fields: paths("", Scope().(scope).Fields)}
		return w.condition(3)
	})
}

// OrderBy makes texts that odata.ParseOrderBy reads in Scope, of one to three fields.
func OrderBy() *rapid.Generator[string] {
	fields := slices.DeleteFunc(paths("", Scope().(scope).Fields), func(f field) bool {
		return f.of.Collection || f.of.Kind == odata.Complex || f.of.Kind == odata.TimeOfDay
	})
	return rapid.Custom(func(t *rapid.T) string {
		items := make([]string, 1+draw(t, 3))
		for i := range items {
			items[i] = pick(t, fields).name + pick(t, []string{"", " asc", " desc", " DESC"})
		}
		return strings.Join(items, pick(t, []string{",", ", "}))
	})
}

// paths returns the fields, and those within complex ones.
func paths(prefix string, scope odata.Scope) []field {
	var all []field
	for _, f := range fieldsOf(scope) {
		all = append(all, field{prefix + f.name, f.of})
		if f.of.Kind == odata.Complex {
			all = append(all, paths(prefix+f.name+"/", f.of.Fields)...)
		}
	}
	return all
}

// writer writes one filter.
type writer struct {
	*rapid.T
	fields   []field
	variable field // of the lambda around; "" without one
}

func (w writer) condition(depth int) string {
	n := draw(w.T, 12)
	if depth == 0 {
		n += 4
	}
	switch {
	case n < 2:
		return w.condition(depth-1) + w.operator("and") + w.condition(depth-1)
	case n < 3:
		return w.condition(depth-1) + w.operator("or") + w.condition(depth-1)
	case n < 4:
		return pick(w.T, []string{"not ", "NOT "}) + "(" + w.condition(depth-1) + ")"
	case n < 5 && depth > 0:
		return "(" + w.condition(depth-1) + w.operator("or") + w.condition(depth-1) + ")"
	}
	f := pick(w.T, w.fields)
	if w.variable.name != "" && draw(w.T, 4) > 0 {
		f = w.variable
	}
	return w.about(f, depth)
}

// about writes a condition on a field.
func (w writer) about(f field, depth int) string {
	switch k := f.of.Kind; {
	case f.of.Collection:
		return w.collection(f, depth)
	case draw(w.T, 12) == 0, k == odata.Complex, k == odata.TimeOfDay, k == odata.Untyped && draw(w.T, 4) == 0:
		return w.sides(f.name, pick(w.T, []string{"eq", "ne", "eq", "ne", "gt", "le"}), "null")
	case k == odata.Bool && draw(w.T, 3) == 0:
		return pick(w.T, []string{"", "not "}) + f.name + pick(w.T, []string{"", " eq true", " ne false", " eq null"})
	case k == odata.Enumeration && draw(w.T, 3) == 0:
		return f.name + w.operator("has") + w.literal(f.of)
	case k == odata.String && draw(w.T, 3) < 2:
		call := pick(w.T, []string{"contains", "startswith", "endswith", "CONTAINS"}) + "(" + w.text(f.name) + "," + w.text(w.literal(f.of)) + ")"
		if draw(w.T, 3) == 0 {
			return w.sides(call, pick(w.T, []string{"eq", "ne"}), pick(w.T, []string{"true", "false"}))
		}
		return call
	case draw(w.T, 6) == 0:
		values := make([]string, 1+draw(w.T, 4))
		for i := range values {
			if values[i] = w.literal(f.of); values[i] == "now()" || draw(w.T, 8) == 0 {
				values[i] = "null"
			}
		}
		left := f.name
		if k == odata.String {
			left = w.text(left)
		}
		return left + w.operator("in") + "(" + strings.Join(values, pick(w.T, []string{",", " , "})) + ")"
	}
	return w.comparison(f)
}

func (w writer) comparison(f field) string {
	operators := []string{"eq", "ne", "gt", "ge", "lt", "le"}
	if f.of.Kind == odata.Enumeration {
		operators = operators[:2]
	}
	left, right := f.name, w.literal(f.of)
	if draw(w.T, 4) == 0 {
		alike := slices.DeleteFunc(slices.Clone(w.fields), func(o field) bool {
			number := func(k odata.Kind) bool { return k == odata.Int || k == odata.Decimal }
			if f.of.Kind == odata.Untyped { // compares with times alone
				return o.of.Collection || o.of.Kind != odata.Date && o.of.Kind != odata.DateTimeOffset
			}
			return o.of.Collection || o.of.Enum != f.of.Enum || o.of.Kind != f.of.Kind && !(number(o.of.Kind) && number(f.of.Kind))
		})
		if len(alike) > 0 {
			right = pick(w.T, alike).name
		}
	}
	if f.of.Kind == odata.String {
		left, right = w.text(left), w.text(right)
	}
	return w.sides(left, pick(w.T, operators), right)
}

// sides writes a comparison, now and then the other way round.
func (w writer) sides(left, op, right string) string {
	swapped := map[string]string{"eq": "eq", "ne": "ne", "gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}
	if draw(w.T, 5) == 0 {
		return right + w.operator(swapped[op]) + left
	}
	return left + w.operator(op) + right
}

func (w writer) collection(f field, depth int) string {
	if w.variable.name != "" || depth == 0 || draw(w.T, 5) == 0 {
		if f.of.Kind == odata.Enumeration && draw(w.T, 2) == 0 {
			return f.name + w.operator("has") + w.literal(f.of)
		}
		if w.variable.name == "" && draw(w.T, 3) > 0 {
			return f.name + "/any()"
		}
		return f.name + w.operator("ne") + "null"
	}
	w.variable = field{"x", odata.Type{Kind: f.of.Kind, Enum: f.of.Enum}}
	return f.name + pick(w.T, []string{"/any(x:", "/all(x:", "/any( x : "}) + w.condition(depth-1) + ")"
}

// text writes a string in a function, now and then.
func (w writer) text(s string) string {
	switch draw(w.T, 6) {
	case 0:
		return "tolower(" + s + ")"
	case 1:
		return "toupper(" + s + ")"
	}
	return s
}

func (w writer) literal(of odata.Type) string {
	switch of.Kind {
	case odata.Bool:
		return pick(w.T, []string{"true", "false", "TRUE"})
	case odata.Int:
		return pick(w.T, append([]string{"0.5", "1.0", "1e2", "9007199254740992.0"}, integers...))
	case odata.Decimal:
		return pick(w.T, slices.Concat(integers, decimals))
	case odata.DateTimeOffset, odata.Untyped:
		return pick(w.T, slices.Concat(instants, dates, []string{"now()", "2024-05-06T10:00Z"}))
	case odata.Date:
		return pick(w.T, dates)
	case odata.Guid:
		return pick(w.T, guids)
	case odata.Enumeration:
		value := pick(w.T, of.Enum.Members)
		switch n := draw(w.T, 4); {
		case of.Enum.Flags && n < 2:
			value = together(w.T, of.Enum)
		case n == 2 && of.Enum.Values != nil:
			sum := pick(w.T, of.Enum.Values)
			value = strconv.FormatInt(sum|pick(w.T, of.Enum.Values), 10)
		}
		return pick(w.T, []string{"", of.Enum.Name, strings.TrimPrefix(of.Enum.Name, Namespace+".")}) + odata.Quote(value)
	default:
		return odata.Quote(pick(w.T, texts))
	}
}

func (w writer) operator(name string) string {
	if draw(w.T, 6) == 0 {
		name = strings.ToUpper(name)
	}
	return pick(w.T, []string{" ", "  ", "\t"}) + name + " "
}
