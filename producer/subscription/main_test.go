package subscription_test

import (
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/resosync/resosync/entityevent/openapitest"
	"github.com/resosync/resosync/producer/subscription"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(described().Covering(m)) }

// described is what every exchange of these tests is checked against.
var described = sync.OnceValue(func() *openapitest.Document {
	d, err := openapitest.Open(subscription.OpenAPI)
	if err != nil {
		panic(err)
	}
	return d
})
