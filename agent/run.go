package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/config"
)

func (p *program) runCommand() *cobra.Command {
	var debug bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the roles in the configuration",
		Long: `run runs the producer, the consumer or both, until SIGINT or SIGTERM; then it stops within 10 seconds. It logs
to standard error, with --json in JSON. All other commands work while it runs.`,
		Example: `  resosync run
  resosync run -c acme.yaml --json 2>> acme.log`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(p.configFile)
			if err != nil {
				return err
			}
			level := slog.LevelInfo
			if debug {
				level = slog.LevelDebug
			}
			return serve(c.Context(), cfg, p.logger(level), nil, func(string) {})
		},
	}
	c.Flags().BoolVar(&debug, "debug", false, "log more")
	return c
}
