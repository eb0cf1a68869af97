package session_test

import (
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/resosync/resosync/entityevent/openapitest"
	"github.com/resosync/resosync/producer/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(document().Covering(m)) }

// document is what every exchange of these tests is checked against.
var document = sync.OnceValue(func() *openapitest.Document {
	d, err := openapitest.Open(session.OpenAPI)
	if err != nil {
		panic(err)
	}
	return d
})
