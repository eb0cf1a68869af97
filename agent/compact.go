package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/spf13/cobra"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
)

// compaction drops events that newer ones replace: on its schedule, and when somebody says so.
type compaction struct {
	store  entityevent.Compactor
	at     string                // cron, or never
	forget time.Duration         // 0: never
	before func(context.Context) // is called before something is forgotten
	logger *slog.Logger
	busy   chan struct{} // held while it runs

	mu      sync.Mutex
	dropped entityevent.Compacted // since the agent began
	ended   time.Time             // when it last came to its end; zero: not since the agent began
}

func newCompaction(c *config.Config, store entityevent.Compactor, logger *slog.Logger) *compaction {
	return &compaction{store: store, at: c.Compact, forget: time.Duration(c.Forget), before: func(context.Context) {}, logger: logger, busy: make(chan struct{}, 1)}
}

// once compacts the log, after one that is under way.
func (c *compaction) once(ctx context.Context) (entityevent.Compacted, error) {
	select {
	case c.busy <- struct{}{}:
		defer func() { <-c.busy }()
	case <-ctx.Done():
		return entityevent.Compacted{}, context.Cause(ctx)
	}
	var q entityevent.Compaction
	if c.forget > 0 {
		q.Forget = time.Now().Add(-c.forget)
		c.before(ctx)
	}
	done, err := c.store.Compact(ctx, q)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped.Events += done.Events
	c.dropped.Forgotten += done.Forgotten
	if err == nil {
		c.ended = time.Now()
	}
	return done, err
}

// run compacts on the schedule until ctx ends. A failure waits for the next time: nothing depends on it.
func (c *compaction) run(ctx context.Context) error {
	if c.at == config.Never {
		return nil
	}
	schedule, err := cron.ParseStandard(c.at)
	if err != nil {
		return err // the configuration was checked
	}
	for {
		select {
		case <-time.After(time.Until(schedule.Next(time.Now()))):
		case <-ctx.Done():
			return nil
		}
		begun := time.Now()
		done, err := c.once(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			c.logger.Error("the log could not be compacted", "err", err)
		case done != (entityevent.Compacted{}):
			c.logger.Info("compacted the log", "events", done.Events, "forgotten", done.Forgotten, "after", age(time.Since(begun)))
		}
	}
}

// counts are what was dropped since the agent began, and when it last came to its end.
func (c *compaction) counts() (entityevent.Compacted, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped, c.ended
}

// compacted is the answer to a compaction.
type compacted struct {
	Events    int64 `json:"events"`    // dropped, because newer ones replace them
	Forgotten int64 `json:"forgotten"` // records whose last events were dropped
}

func (a *agent) serveCompact(w http.ResponseWriter, r *http.Request) {
	done, err := a.compaction.once(r.Context())
	switch {
	case errors.Is(err, errStopping):
		reply.Refuse(w, &reply.Error{Status: http.StatusServiceUnavailable, Detail: "the agent is stopping; what was dropped stays dropped, and the next run does the rest"})
	case err != nil:
		refuse(w, err)
	default:
		reply.Write(w, http.StatusOK, reply.JSON, compacted(done))
	}
}

func (p *program) compactCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "compact",
		Short: "Drop the events of the log that newer ones replace",
		Long: `compact drops every event of the log for which a newer one tells the same readers of the same record, so that the
log stays about as long as there are records. Whoever reads it from 0 comes to the same state as before; whoever is
reading it misses nothing. The agent does it by itself, as ` + "`compact`" + ` in the configuration says.

With ` + "`forget: 3y`" + ` in the configuration it also drops the last events of records that are gone for three years.
A reader who stands before these is told to load anew. A subscription that none of them was for is moved past them
first, also while no agent runs.`,
		Example: `  resosync compact
  resosync compact --json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withSession(c, func(ctx context.Context, s *session) error {
				var done compacted
				if err := s.call(ctx, http.MethodPost, "/admin/compact", nil, &done); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(done)
				}
				p.printf("dropped %s that newer ones replace, and forgot %s\n", plural(done.Events, "event"), plural(done.Forgotten, "record"))
				return nil
			})
		},
	}
}
