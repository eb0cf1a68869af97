package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/resosync/resosync/producer"
)

// importFlags are what import is told beside its files.
type importFlags struct {
	resource     string
	replace      bool
	allowDeletes bool
}

func (p *program) importCommand() *cobra.Command {
	var flags importFlags
	c := &cobra.Command{
		Use:   "import FILE…",
		Short: "Import records from files",
		Long: `import puts records into the producer's store: RESO Common Format in JSON (.json) or JSON Lines (.jsonl), as they
are or compressed (.gz), - for standard input. What differs from the store becomes an event; what is equal changes
nothing. A record that cannot be accepted is refused, with its line, and the others go in.

The resource is that of a record's @reso.context, or --resource.

With --replace the files are all that there is of their resources: in the end what they lack becomes gone. What the
store has of a refused record stays. Nothing is removed if a file cannot be read to its end, or has a record whose key
cannot be told. Nor does a resource lose any if the files have none of it, or if within an hour it would lose more than
half of more than 10, or more than 100 that are more than 2 % of what was there before: then import says how many these
are and exits with 1, each time anew, and --allow-deletes removes them. An import that is broken off while it reads
removes nothing: run it again.`,
		Example: `  resosync import property.json media.jsonl
  resosync import --replace --resource Property property-1.jsonl.gz property-2.jsonl.gz
  resosync import --resource Property - < listings.jsonl`,
		Args: arguments(cobra.MinimumNArgs(1)),
		PreRunE: func(*cobra.Command, []string) error {
			if flags.allowDeletes && !flags.replace {
				return usageError{errors.New("--allow-deletes belongs to --replace")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return p.withSession(c, func(ctx context.Context, s *session) error { return p.importFiles(ctx, s, args, flags) })
		},
	}
	c.Flags().StringVar(&flags.resource, "resource", "", "the resource of records that do not say theirs (`NAME`)")
	c.Flags().BoolVar(&flags.replace, "replace", false, "make the resources equal to the files: what they lack becomes gone")
	c.Flags().BoolVar(&flags.allowDeletes, "allow-deletes", false, "with --replace: however many these are")
	return c
}

// importFiles sends the files in one request, for several may be one whole, and says what became of them.
func (p *program) importFiles(ctx context.Context, s *session, names []string, flags importFlags) error {
	for _, name := range names {
		if name == "-" {
			continue
		}
		if _, err := os.Stat(name); err != nil {
			return err
		}
	}
	result, err := p.sendFiles(ctx, s, names, flags)
	if errors.Is(err, errNoReply) {
		return fmt.Errorf("%w; what was sent before may be stored, and to import the same again is right", err)
	}
	if err != nil {
		return err
	}
	bad := false
	for i, summary := range result.Files {
		bad = bad || summary.Refused > 0
		if err := p.printImport(names[i], summary); err != nil {
			return err
		}
	}
	for _, removal := range result.Removed {
		bad = bad || removal.Held > 0
		if err := p.printRemoval(removal); err != nil {
			return err
		}
	}
	switch {
	case result.Error != "":
		return fmt.Errorf("%s: %s", names[max(0, len(result.Files)-1)], result.Error)
	case bad:
		return errReported
	}
	return nil
}

// sendFiles sends the files while they are read.
func (p *program) sendFiles(ctx context.Context, s *session, names []string, flags importFlags) (result imported, err error) {
	reader, writer := io.Pipe()
	body := multipart.NewWriter(writer)
	written := make(chan error, 1)
	go func() {
		err := p.writeFiles(body, names)
		writer.CloseWithError(err) // nil: the end
		written <- err
	}()
	q := url.Values{"files": {strconv.Itoa(len(names))}}
	if flags.resource != "" {
		q.Set("resource", flags.resource)
	}
	if flags.replace {
		q.Set("replace", "true")
	}
	if flags.allowDeletes {
		q.Set("allow_deletes", "true")
	}
	header := http.Header{"Content-Type": {"multipart/mixed; boundary=" + body.Boundary()}}
	resp, err := s.send(ctx, http.MethodPost, "/admin/import?"+q.Encode(), header, reader)
	if err == nil {
		defer resp.Body.Close()
		err = json.NewDecoder(resp.Body).Decode(&result)
	}
	reader.Close()
	if failed := <-written; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		return result, failed // why there was no answer, if there was none
	}
	return result, err
}

func (p *program) writeFiles(body *multipart.Writer, names []string) error {
	for _, name := range names {
		part, err := body.CreatePart(nil)
		if err != nil {
			return err
		}
		if err := p.writeFile(part, name); err != nil {
			return err
		}
	}
	return body.Close()
}

func (p *program) writeFile(to io.Writer, name string) error {
	in, size := p.stdin, int64(-1)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
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
	_, err := io.Copy(to, &counted{Reader: in, show: show, size: size})
	return err
}

// importLines imports one text of RESO Common Format; records that do not say their resource are of this one.
func (s *session) importLines(ctx context.Context, resource string, text *bytes.Buffer) (producer.Summary, error) {
	var result imported
	resp, err := s.send(ctx, http.MethodPost, "/admin/import?resource="+url.QueryEscape(resource), nil, text)
	if err != nil {
		return producer.Summary{}, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&result); err != nil {
		return producer.Summary{}, err
	}
	if result.Error != "" || len(result.Files) != 1 {
		return producer.Summary{}, errors.New(cmp.Or(result.Error, "no answer to the import"))
	}
	return result.Files[0], nil
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

func (p *program) printImport(name string, result producer.Summary) error {
	if p.json {
		return p.printLine(struct {
			File string `json:"file"`
			producer.Summary
		}{name, result})
	}
	p.printf("%s: %s new, %s changed, %s unchanged, %s refused\n", name,
		count(int64(result.New)), count(int64(result.Changed)), count(int64(result.Unchanged)), count(int64(result.Refused)))
	for i, r := range result.Refusals {
		if i == refusalsShown {
			break
		}
		which := ""
		if r.Record != r.Line { // of several in a line, or in several
			which = fmt.Sprintf("record %d: ", r.Record)
		}
		p.notef("%s:%d: %s%s\n", name, r.Line, which, r.Reason)
	}
	if more := result.Refused - refusalsShown; more > 0 {
		p.notef("%s: and %d more\n", name, more)
	}
	return nil
}

func (p *program) printRemoval(r producer.Removal) error {
	switch {
	case p.json:
		return p.printLine(r)
	case r.Held > 0:
		p.notef("%s: %s missing, none removed: %s\n", r.Resource, count(r.Held), r.Reason)
	default:
		p.printf("%s: %s gone\n", r.Resource, count(r.Gone))
	}
	return nil
}
