// Command resosync keeps a copy of an MLS's data exact. It runs a producer, which turns every change of
// a record into one numbered EntityEvent, a consumer, which keeps a replica by following one, or both.
//
// This package wires the others: the commands, the data folder and its lock, the HTTP routes, and the
// agent's start and end. It is the only one that starts long-lived goroutines, and it waits for each.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit statuses of every command.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	if os.Getenv("GOGC") == "" {
		paceCollector()
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line. The first SIGINT or SIGTERM ends the command's context; the second one
// ends the process.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	p := &program{stdin: stdin, stdout: stdout, stderr: stderr}
	root := p.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "%s: %v\nSee %s --help.\n", command.CommandPath(), err, command.CommandPath())
		return exitUsage
	case errors.Is(err, errReported):
		return exitFailed
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintf(stderr, "%s: interrupted\n", command.CommandPath())
		return exitFailed
	default:
		fmt.Fprintf(stderr, "%s: %v\n", command.CommandPath(), err)
		return exitFailed
	}
}

// usageError is a command line that cannot be meant: exit status 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported ends a command that already said what is wrong: exit status 1.
var errReported = errors.New("reported")

// program is what every command shares: the streams and the flags of the root command.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	configFile     string
	json           bool
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "resosync",
		Short: "Keeps a copy of an MLS's data exact",
		Long: `resosync keeps a copy of an MLS's data exact (RESO EntityEvent, RCP-27, and push by webhook, RCP-28).

A producer turns every change of a record into one numbered event and serves and pushes the events.
A consumer follows a producer, fetches what changed, and keeps a replica. One agent can be both.`,
		Example: `  resosync demo                    see it work: two agents, made-up listings, live changes
  resosync init --producer         write resosync.yaml; then: resosync check, resosync run`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().StringVarP(&p.configFile, "config", "c", "resosync.yaml", "the configuration `FILE`")
	root.PersistentFlags().BoolVar(&p.json, "json", false, "print JSON instead of text")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(p.demoCommand(), p.initCommand(), p.checkCommand(), p.runCommand(), p.syncCommand(), p.importCommand(),
		p.eventsCommand(), p.statusCommand(), p.reconcileCommand(), p.verifyCommand(), p.asideCommand(), p.subscribeCommand(), p.subscriptionsCommand(),
		p.resumeCommand(), p.cancelCommand(), p.tokenCommand(), p.clientCommand(), p.backupCommand(),
		p.compactCommand(), p.logCommand(), p.versionCommand())
	group(root)
	return root
}

// group makes a command that only has others under it: alone, or with a name that it does not know, it
// is a usage error.
func group(c *cobra.Command) {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				return usagef("there is no command %q; did you mean %q?", args[0], near[0])
			}
			return usagef("there is no command %q", args[0])
		}
		c.SetOut(c.ErrOrStderr())
		return errors.Join(c.Help(), usagef("name a command"))
	}
	if c.SuggestionsMinimumDistance == 0 {
		c.SuggestionsMinimumDistance = 2
	}
}

// arguments wraps a check of the number of arguments, so that a wrong number is a usage error.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
