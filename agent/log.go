package main

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/producer"
)

func (p *program) logCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "log",
		Short: "Give the log a new name after a restore, or keep its name",
	}
	c.AddCommand(p.newLogCommand(), p.keepLogCommand())
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

func (p *program) keepLogCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keep-id",
		Short: "Keep the log's name, for the store was not restored",
		Long: `keep-id is for when a reader claims to be ahead of the log though no backup was restored: a mistake of its software, or
worse. /readyz turns red by it, as it must after a restore, and ` + "`resosync status`" + ` names the reader. keep-id makes it
green again; what this reader claims is answered with 410 as before, and is believed no more until log new-id.

After a restore it is wrong: readers would take the numbers that are given out next for those that they know.`,
		Example: `  resosync log keep-id`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withSession(c, func(ctx context.Context, s *session) error {
				var was producer.RestoredState
				if err := s.call(ctx, http.MethodPost, "/admin/log/keep", nil, &was); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(was)
				}
				p.printf("log %s keeps its name: %s, which claimed to have read up to %d, is believed no more\n", was.Log, was.By, was.Seq)
				return nil
			})
		},
	}
}
