package consumer

import "github.com/resosync/resosync/entityevent/metadata"

// rank orders resources: parents first. Removals go the other way.
func rank(resource string) int { return metadata.Rank(resource) }
