package odata

import "strings"

// Quote returns s as a string literal: quotes are doubled.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// In returns the filter that a field is one of the keys, which are quoted or, being numbers, are not.
func In(field string, keys []string, quoted bool) string {
	var b strings.Builder
	b.WriteString(field)
	b.WriteString(" in (")
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(keyLiteral(key, quoted))
	}
	b.WriteByte(')')
	return b.String()
}

// AnyOf returns what In returns as comparisons, for servers that do not know the operator in.
func AnyOf(field string, keys []string, quoted bool) string {
	var b strings.Builder
	for i, key := range keys {
		if i > 0 {
			b.WriteString(" or ")
		}
		b.WriteString(field)
		b.WriteString(" eq ")
		b.WriteString(keyLiteral(key, quoted))
	}
	return b.String()
}

func keyLiteral(key string, quoted bool) string {
	if quoted {
		return Quote(key)
	}
	return key
}
