package odata

// Kind is what a value is.
type Kind uint8

// The kinds of values. Literals are of the kinds up to Enumeration.
const (
	Untyped Kind = iota // a field of which nothing is known: it takes the kind of what stands beside it
	Null
	Bool
	Int // fits in an int64
	Decimal
	String
	DateTimeOffset
	Date
	Guid
	Enumeration
	Moment // of a field of which nothing is known beside a Date or a DateTimeOffset: it may hold either
	TimeOfDay
	Complex
)

var kindNames = [...]string{
	Untyped: "Edm.Untyped", Null: "null", Bool: "Edm.Boolean", Int: "Edm.Int64", Decimal: "Edm.Decimal", String: "Edm.String",
	DateTimeOffset: "Edm.DateTimeOffset", Date: "Edm.Date", Guid: "Edm.Guid", Enumeration: "Edm.EnumType",
	Moment: "Edm.Date or Edm.DateTimeOffset", TimeOfDay: "Edm.TimeOfDay", Complex: "Edm.ComplexType",
}

// String returns the name in OData.
func (k Kind) String() string { return kindNames[k] }

// number says whether k is compared as a number.
func (k Kind) number() bool { return k == Int || k == Decimal }

// simple says whether a field of the kind can be compared with a literal that is not null.
func (k Kind) simple() bool { return k >= Bool && k <= Moment }

// time says whether k is compared as an instant, where one of two sides is a Moment.
func (k Kind) time() bool { return k == Date || k == DateTimeOffset || k == Moment }

// compares says whether values of two kinds compare.
func (k Kind) compares(other Kind) bool {
	return k == other || k.number() && other.number() || (k == Moment || other == Moment) && k.time() && other.time()
}

// Type is the type of a field or of an expression.
type Type struct {
	Kind       Kind
	Collection bool  // several values of Kind
	Enum       *Enum // of an Enumeration
	Fields     Scope // of a Complex; nil: they are not known
}

// String returns the name in OData.
func (t Type) String() string {
	name := t.Kind.String()
	if t.Enum != nil {
		name = t.Enum.Name
	}
	if t.Collection {
		return "Collection(" + name + ")"
	}
	return name
}

// Scope says what the names in a filter mean. With nil in place of a Scope, every name is a field and
// takes its kind from what it is compared with.
type Scope interface {
	// Field returns the type of a field; name is one segment of a path.
	Field(name string) (Type, bool)
	// Enum returns an enumeration by its qualified name, in any declared namespace, or by its bare name.
	Enum(name string) (*Enum, bool)
}

// Fields is a Scope without enumerations of its own.
type Fields map[string]Type

// Field returns the type of a field.
func (f Fields) Field(name string) (Type, bool) { t, ok := f[name]; return t, ok }

// Enum knows none.
func (f Fields) Enum(string) (*Enum, bool) { return nil, false }
