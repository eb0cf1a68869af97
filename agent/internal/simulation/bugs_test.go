package simulation

// bug is one that is planted in a copy of a source file, to prove that the simulation notices it.
type bug struct {
	name   string
	breaks string // what it does
	file   string // from the root of the module
	edits  []edit
}

// edit replaces a text that stands in the file once.
type edit struct{ old, new string }

// bugs are those that this field is known for. Each leaves the code such that it compiles and runs, and that
// all goes well while nothing fails.
var bugs = []bug{
	{
		name: "cursor before commit", file: "consumer/follow.go",
		breaks: "a page moves the cursor in one transaction, and stores its events in the next",
		edits: []edit{{`	p, err := f.Store.Receive(ctx, d)
	f.stats.polled`, `	early := d
	early.Events = nil
	if _, err := f.Store.Receive(ctx, early); err != nil {
		return p, err
	}
	d.Chained = false
	p, err := f.Store.Receive(ctx, d)
	f.stats.polled`}},
	},
	{
		name: "no re-check", file: "consumer/fetch.go",
		breaks: "one answer that a record is not there removes it",
		edits: []edit{
			{`			} else if err := f.single(ctx, key, t, false); err != nil || errors.Is(t.err, errSlow) {
				return err
			} else {`, `			} else if t.verdict = absent; true {`},
			{`		if twice {`, `		if twice && false {`},
		},
	},
	{
		name: "chain ignored", file: "entityevent/sqlite/receive.go",
		breaks: "a push moves the cursor past events that came before it and never arrived",
		edits:  []edit{{`	if !r.Chained || r.After > c.Sequence {`, `	if !r.Chained {`}},
	},
	{
		name: "retry dropped at the end", file: "producer/push_policy.go",
		breaks: "a batch that is not taken for too long is given up, and the next one is sent",
		edits: []edit{{`		r.suspend(fmt.Sprintf("not one push was taken for %s: %s", failing.Round(time.Minute), got.problem))`,
			`		s.settled()
		s.Acknowledged = b.through
		r.moveTo(b.through)`}},
	},
	{
		name: "no-op always", file: "entityevent/sqlite/apply.go",
		breaks: "a change of a record that exists makes no event",
		edits:  []edit{{`	case !old.exists || content.Hash != old.hash:`, `	case !old.exists:`}},
	},
	{
		name: "savepoint missing", file: "entityevent/sqlite/group.go",
		breaks: "what a refused commit has written stays, when others share its transaction",
		edits: []edit{{`			if _, err := t.exec("ROLLBACK TO call"); err != nil {
				return err
			}
`, ``}},
	},
	{
		name: "Retry-After ignored by the producer", file: "producer/push_policy.go",
		breaks: "pushes come again when the producer likes, not when the subscriber asked",
		edits:  []edit{{`		wait, ok := got.wait(now)`, `		wait, ok := time.Duration(0), false`}},
	},
	{
		name: "Retry-After ignored by the consumer", file: "consumer/halt.go",
		breaks: "requests come again when the consumer likes, not when the producer asked",
		edits:  []edit{{`	halt, told := retry.After(resp.Header.Get("Retry-After"), now)`, `	halt, told := retry.After("", now)`}},
	},
	{
		name: "brake off", file: "consumer/brake.go",
		breaks: "removals are never held",
		edits:  []edit{{`		if allowed {`, `		if allowed || n > 0 {`}},
	},
	{
		name: "log id ignored", file: "consumer/follow.go",
		breaks: "another log is followed as if it were the same",
		edits: []edit{
			{`		if page.log != end.Log {`, `		if page.log = end.Log; page.log != end.Log {`},
		},
	},
	{
		name: "inbox row done before commit", file: "consumer/commit.go",
		breaks: "events leave the inbox in one transaction, and their records are written in the next",
		edits: []edit{{`	outcomes, err := r.touched.apply(ctx, r.Store, c, r.begun)`,
			`	if _, err := r.Store.Apply(ctx, entityevent.Commit{Feed: r.Name, Done: c.Done}); err != nil {
		return err
	}
	c.Done = nil
	outcomes, err := r.touched.apply(ctx, r.Store, c, r.begun)`}},
	},
}
