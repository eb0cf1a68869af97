package consumer

import _ "embed"

// OpenAPI describes what a Receiver takes and answers. It is a document of its own, and a part of the one that
// the agent serves.
//
//go:embed openapi.json
var OpenAPI []byte
