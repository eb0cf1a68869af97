package producer

import "github.com/resosync/resosync/entityevent/odata"

// sides returns the field and the literal of a comparison that has no more.
func sides(e odata.Comparison) (field string, value odata.Literal, ok bool) {
	f, isField := e.Left.(odata.Field)
	value, isLiteral := e.Right.(odata.Literal)
	return f.Path, value, isField && isLiteral
}
