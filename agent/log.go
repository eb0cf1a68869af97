package main

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
)

func (p *program) logCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "log",
		Short: "Give the log a new name after a restore",
	}
	c.AddCommand(p.newLogCommand())
	group(c)
	return c
}

func (p *program) newLogCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new-id",
		Short: "Give the log a new name, so that every reader loads anew",
		Long: `new-id is for after a restore from a backup, and for nothing else. Readers may have seen events that the backup lacks,
and would take the numbers that are given out next for those that they know. With a new log id every reader
notices, loads everything again, and serves the old data meanwhile; numbers go on 4,294,967,296 higher, so that none
is given out twice.`,
		Example: `  resosync log new-id`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withSession(c, func(ctx context.Context, s *session) error {
				var done renamed
				if err := s.call(ctx, http.MethodPost, "/admin/log", nil, &done); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(done)
				}
				p.printf("log %s is now %s; numbers go on after %d, and its readers load anew\n", done.Before, done.Log, done.Head)
				return nil
			})
		},
	}
}
