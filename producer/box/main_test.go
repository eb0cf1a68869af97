package box_test

import (
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/resosync/resosync/entityevent/openapitest"
	"github.com/resosync/resosync/producer/box"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(document().Covering(m)) }

// document is what every exchange of these tests is checked against.
var document = sync.OnceValue(func() *openapitest.Document {
	d, err := openapitest.Open(box.OpenAPI)
	if err != nil {
		panic(err)
	}
	return d
})
