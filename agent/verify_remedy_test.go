package main

import (
	"testing"

	"github.com/resosync/resosync/consumer"
)

// What is said to put it right does so: of removals that are held, what releases them, and nothing that does not.
func TestVerifyRemedy(t *testing.T) {
	const (
		repair  = "to put it right, run: resosync reconcile mls"
		full    = "; it does not see another content under the same timestamp, so if that is left: resosync sync mls --full"
		release = " held: if the producer means them, run: resosync reconcile mls --allow-deletes"
		aside   = "; see also: resosync aside list"
	)
	held := consumer.VerifiedRecord{Key: "1", What: "extra", Reason: "its removal is held", Held: true}
	missing := consumer.VerifiedRecord{Key: "2", What: "missing"}
	changed := consumer.VerifiedRecord{Key: "3", What: "changed"}
	poison := consumer.VerifiedRecord{Key: "4", What: "changed", Reason: "set aside: not JSON"}
	list := func(records ...consumer.VerifiedRecord) []consumer.VerifiedRecord { return records }
	for want, of := range map[string]consumer.VerifiedResource{
		"1 removal is" + release + aside:                         {Differences: 1, Held: 1, Differs: list(held)},
		"128 removals are" + release + aside:                     {Differences: 128, Held: 128, Differs: list(held)},
		repair + "; 1 removal is" + release + aside:              {Differences: 2, Held: 1, Differs: list(held, missing)},
		repair + full + "; 1 removal is" + release + aside:       {Differences: 2, Held: 1, Differs: list(held, changed)},
		repair + full + "; 127 removals are" + release + aside:   {Differences: 128, Held: 127, Differs: list(held)},
		repair + full + "; 2,000 removals are" + release + aside: {Differences: 2000, Held: 2000, Differs: list(held), Ranges: make([]consumer.VerifiedRange, 1)},
		repair:         {Differences: 1, Differs: list(missing)},
		repair + full:  {Differences: 128, Differs: list(missing)},
		repair + aside: {Differences: 1, Differs: list(poison)},
	} {
		if got := verifyRemedy("mls", consumer.Verified{Resources: []consumer.VerifiedResource{of}}); got != want {
			t.Errorf("of %+v:\n%s\nwant\n%s", of, got, want)
		}
	}
}
