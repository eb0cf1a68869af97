package consumer_test

import (
	"sync"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent/openapitest"
)

// document is what a receiver does by its own description.
var document = sync.OnceValue(func() *openapitest.Document {
	d, err := openapitest.Open(consumer.OpenAPI)
	if err != nil {
		panic(err)
	}
	return d
})
