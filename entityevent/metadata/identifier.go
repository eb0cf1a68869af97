package metadata

import (
	"unicode/utf8"

	"github.com/resosync/resosync/entityevent/odata"
)

const maxIdentifier = 128 // characters

// Identifier says whether a name may stand in metadata (OData CSDL 4.01, 15.2): a letter or an underscore, then
// also digits. Clients refuse the whole of a document in which a resource or a field has another one.
func Identifier(name string) bool {
	return utf8.RuneCountInString(name) <= maxIdentifier && odata.IsName(name)
}
