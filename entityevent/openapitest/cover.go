package openapitest

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Covering runs the tests of a package, and fails if they left out an operation of the document, or one of
// its successes. It does so only when all of them ran.
func (d *Document) Covering(m *testing.M) interface{ Run() int } { return covering{m, d} }

type covering struct {
	*testing.M
	document *Document
}

func (c covering) Run() int {
	status := c.M.Run()
	if status != 0 || testing.Short() {
		return status
	}
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz", "test.bench"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return status
		}
	}
	if untested := c.document.Untested(); len(untested) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: no test saw what the OpenAPI document describes: %s\n", strings.Join(untested, ", "))
		return 1
	}
	return status
}
