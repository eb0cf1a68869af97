package producer

import "github.com/resosync/resosync/entityevent/odata"

// filter reads $filter, nil without one.
func (x *exchange) filter() (odata.Expr, error) {
	if x.options.Filter == nil {
		return nil, nil
	}
	return odata.ParseFilter(*x.options.Filter, nil)
}

// selects reads $select, nil for all fields.
func (x *exchange) selects() ([]string, error) {
	if x.options.Select == nil {
		return nil, nil
	}
	return odata.ParseSelect(*x.options.Select, nil)
}

// selected is what selects returned without an error before.
func (x *exchange) selected() []string {
	fields, _ := x.selects()
	return fields
}

// orderBy reads $orderby.
func (x *exchange) orderBy() ([]odata.Order, error) {
	if x.options.OrderBy == nil {
		return nil, nil
	}
	return odata.ParseOrderBy(*x.options.OrderBy, nil)
}

// sides returns the field and the literal of a comparison that has no more.
func sides(e odata.Comparison) (field string, value odata.Literal, ok bool) {
	f, isField := e.Left.(odata.Field)
	value, isLiteral := e.Right.(odata.Literal)
	return f.Path, value, isField && isLiteral
}
