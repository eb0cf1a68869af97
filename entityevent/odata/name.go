package odata

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// IsName says whether s is a name of OData, a simple identifier: City, Straße, _1.
func IsName(s string) bool {
	for i, r := range s {
		switch {
		case r == '_', r|0x20 >= 'a' && r|0x20 <= 'z':
		case r < utf8.RuneSelf:
			if i == 0 || r < '0' || r > '9' {
				return false
			}
		case unicode.In(r, unicode.L, unicode.Nl):
		case i == 0 || !unicode.In(r, unicode.Nd, unicode.Mn, unicode.Mc, unicode.Pc, unicode.Cf):
			return false
		}
	}
	return s != ""
}

// areNames says whether s is one name or several with sep between them: Address/City.
func areNames(s, sep string) bool {
	for name := range strings.SplitSeq(s, sep) {
		if !IsName(name) {
			return false
		}
	}
	return true
}
