package subscription

import _ "embed"

// OpenAPI describes what an API answers, and what is pushed to a registered subscription. It is a document of its own, and a
// part of the one that the agent serves.
//
//go:embed openapi.json
var OpenAPI []byte
