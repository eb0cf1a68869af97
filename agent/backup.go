package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/spf13/cobra"
)

func (p *program) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a consistent copy of the store, while it is in use",
		Long: `backup writes a copy of the store to FILE, which must not exist: records, log, inbox, positions and subscriptions, all
as of one moment. FILE stands in the folder in which you call; when an agent runs it is the agent that writes it, so
its user must be allowed to. Keep the files signing.key and admin.token of the data folder beside it: with another
signing.key every token that was issued ends.

To restore, with the agent stopped:

  cp FILE data/resosync.db              the copy, over what is there
  rm -f data/resosync.db-wal data/resosync.db-shm
  resosync log new-id                   readers may know events that the copy lacks
  resosync run

log new-id makes every reader load everything again, and numbers are never given out twice. If it is forgotten, the
first reader that is ahead of the log turns /readyz red, and ` + "`resosync status`" + ` says who. A replica that nobody
reads from needs no backup: an empty one loads itself.`,
		Example: `  resosync backup /var/backups/resosync-$(date +%F).db`,
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			return p.withSession(c, func(ctx context.Context, s *session) error {
				var done backedUp
				if err := s.call(ctx, http.MethodPost, "/admin/backup", map[string]string{"path": path}, &done); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(done)
				}
				p.printf("%s: %s, log %s with every event up to %d\n", args[0], fmt.Sprintf("%.1f MB", float64(done.Bytes)/1e6), done.Log, done.Head)
				return nil
			})
		},
	}
}
