package producer_test

import (
	"testing"
	"time"

	"github.com/resosync/resosync/producer"
)

// TestShareOfHolds: one client's requests do not take the room of all others.
func TestShareOfHolds(t *testing.T) {
	h := &producer.Holds{Most: 8}
	var held []*producer.Hold
	for _, client := range []string{"a", "a", "a", "a", "a", "a", "b", "b"} {
		hold := h.Begin(client, time.Hour)
		if hold == nil {
			t.Fatal("less than its share", client)
		}
		if held = append(held, hold); len(held) == 6 && h.Begin("a", time.Hour) != nil {
			t.Fatal("more than its share")
		}
	}
	if h.Begin("c", time.Hour) != nil {
		t.Fatal("more than all")
	}
	h.End(held[0])
	if held[0] = h.Begin("a", time.Hour); held[0] == nil || h.Begin("a", time.Hour) != nil {
		t.Error("what ended is not counted")
	}
	for _, hold := range held {
		h.End(hold)
	}
	if h.Len() != 0 {
		t.Errorf("%d are held", h.Len())
	}
}
