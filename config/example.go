package config

import (
	_ "embed"
	"slices"
)

//go:embed example.yaml
var example []byte

// Example returns a commented configuration with both roles, which loads when the environment variables
// that it names are set.
func Example() []byte { return slices.Clone(example) }
