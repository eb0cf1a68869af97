package producer

import _ "embed"

// OpenAPI describes what a Server answers and what a Pusher sends. It is a document of its own, and a part of
// the one that the agent serves.
//
//go:embed openapi.json
var OpenAPI []byte
