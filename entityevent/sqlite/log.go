package sqlite

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/resosync/resosync/entityevent"
)

const (
	logQuery  = `SELECT log, counter FROM meta`
	logUpdate = `UPDATE meta SET log = ?, counter = ?`
)

// LogID implements entityevent.Store.
func (s *Store) LogID() entityevent.LogID { return s.writer.log.Load().(entityevent.LogID) }

// NewLog implements entityevent.Store.
func (s *Store) NewLog(ctx context.Context) (entityevent.LogID, error) {
	log := entityevent.LogID(uuid.NewString())
	err := s.write(ctx, &call{rows: 1, run: func(t *tx) error {
		if t.counter > maxSequence-int64(entityevent.Restart) {
			return fmt.Errorf("%w: the counter is at %d, there is no room for another log", entityevent.ErrInvalid, t.counter)
		}
		t.counter += int64(entityevent.Restart)
		if _, err := t.exec(logUpdate, string(log), t.counter); err != nil {
			return err
		}
		t.log = log // nothing can undo this call alone any more
		return nil
	}})
	if err != nil {
		return "", fmt.Errorf("new log: %w", err)
	}
	return log, nil
}
