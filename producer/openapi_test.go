package producer_test

import (
	"sync"

	"github.com/resosync/resosync/entityevent/openapitest"
	"github.com/resosync/resosync/producer"
)

// document is what every exchange of these tests is checked against.
var document = sync.OnceValue(func() *openapitest.Document {
	d, err := openapitest.Open(producer.OpenAPI)
	if err != nil {
		panic(err)
	}
	return d
})
