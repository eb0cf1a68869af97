package producer

// PushStats counts what a Pusher did since it was made.
type PushStats struct {
	Events  int64 // acknowledged
	Retries int64 // pushes after one that was not acknowledged
	// Batches counts pushes by what became of them, all of these being there: acknowledged; failed (no
	// answer, or any status that is not among the following); halted (429, 503); refused (401, 403);
	// too_large (413); gone (410).
	Batches map[string]int64
}

// outcomes names the verdicts.
var outcomes = [...]string{
	advance: "acknowledged", backOff: "failed", halt: "halted", refused: "refused", shrink: "too_large", suspend: "gone",
}

// counts are the totals of a Pusher.
type counts struct {
	events, retries int64
	batches         [len(outcomes)]int64 // by verdict
}

// Stats returns the totals so far. It may be called while Run is under way.
func (p *Pusher) Stats() PushStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PushStats{Events: p.counts.events, Retries: p.counts.retries, Batches: make(map[string]int64, len(outcomes))}
	for v, name := range outcomes {
		s.Batches[name] = p.counts.batches[v]
	}
	return s
}

// count notes what became of a push, before the state changes by it.
func (r *run) count(v verdict, b batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.batches[v]++
	if r.state.Attempts > 0 {
		r.counts.retries++
	}
	if v == advance {
		r.counts.events += int64(b.events)
	}
}
