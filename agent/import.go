package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

func (p *program) importCommand() *cobra.Command {
	var resource string
	c := &cobra.Command{
		Use:   "import FILE…",
		Short: "Import records from files",
		Long: `import puts records into the producer's store: RESO Common Format in JSON (.json) or JSON Lines (.jsonl), - for
standard input. What differs from the store becomes an event; what is equal changes nothing. A record that
cannot be accepted is refused, with its line, and the others go in.

The resource is that of a record's @reso.context, or --resource.`,
		Example: `  resosync import property.json media.jsonl
  resosync import --resource Property - < listings.jsonl`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withSession(c, func(ctx context.Context, s *session) error {
				refused := false
				for _, name := range args {
					result, err := p.importFile(ctx, s, name, resource)
					if err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
					refused = refused || result.Refused > 0
					if err := p.printImport(name, result); err != nil {
						return err
					}
					if result.Error != "" {
						return fmt.Errorf("%s: %s", name, result.Error)
					}
				}
				if refused {
					return errReported
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&resource, "resource", "", "the resource of records that do not say theirs (`NAME`)")
	return c
}

func (p *program) importFile(ctx context.Context, s *session, name, resource string) (imported, error) {
	in, size := p.stdin, int64(-1)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return imported{}, err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		in = f
	}
	show := p.newProgress("import "+filepath.Base(name), size, progressbar.OptionShowBytes(true))
	defer show.end()
	// The agent reads no faster than it imports, so what it has read is what is done.
	var result imported
	err := s.importLines(ctx, resource, &counted{Reader: in, show: show, size: size}, &result)
	return result, err
}

// importLines imports RESO Common Format; records that do not say their resource are of this one.
func (s *session) importLines(ctx context.Context, resource string, in io.Reader, result *imported) error {
	path := "/admin/import"
	if resource != "" {
		path += "?resource=" + url.QueryEscape(resource)
	}
	resp, err := s.send(ctx, http.MethodPost, path, nil, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(result)
}

// counted shows how much was read.
type counted struct {
	io.Reader
	show *progress
	size int64
	done int64
}

func (r *counted) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.done += int64(n)
	text := fmt.Sprintf("%.1f MB", float64(r.done)/1e6)
	if r.size > 0 {
		text += fmt.Sprintf(" of %.1f MB", float64(r.size)/1e6)
	}
	r.show.at(r.done, text)
	return n, err
}

// refusalsShown is how many refused records are named.
const refusalsShown = 20

func (p *program) printImport(name string, result imported) error {
	if p.json {
		return p.printLine(struct {
			File string `json:"file"`
			imported
		}{name, result})
	}
	p.printf("%s: %s new, %s changed, %s unchanged, %s refused\n", name,
		count(int64(result.New)), count(int64(result.Changed)), count(int64(result.Unchanged)), count(int64(result.Refused)))
	for i, r := range result.Refusals {
		if i == refusalsShown {
			break
		}
		p.notef("%s:%d: %s\n", name, r.Record, r.Reason)
	}
	if more := result.Refused - refusalsShown; more > 0 {
		p.notef("%s: and %d more\n", name, more)
	}
	return nil
}
