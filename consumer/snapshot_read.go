package consumer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"

	"github.com/resosync/resosync/entityevent"
)

// errCut: the answer ended early, or none came. The rest may be had.
var errCut = errors.New("the download was cut")

// snapshotPlace is a place between two lines of a result.
type snapshotPlace struct {
	Byte int64  `json:"byte"`          // how many are before it, without compression
	Tag  string `json:"tag,omitempty"` // the ETag of the result without compression; "": not known
}

// batch is some lines of a result.
type batch struct {
	text    *bytes.Buffer
	records []entityevent.Change // part of text
	end     int64                // the byte of the result after the last of them
	last    bool                 // nothing follows
	err     error                // nothing else counts
}

// copyLines downloads a result from the place that was reached, and writes it batch by batch, one being read
// while another is written. With the last batch the resource is read, if there were as many records as the producer
// says.
func (l *loader) copyLines(ctx context.Context, m *mark, done finished) error {
	ctx, cancel := context.WithCancel(ctx)
	resp, lines, err := l.download(ctx, done) //nolint:bodyclose // closed where it is read
	if err != nil {
		cancel()
		return err
	}
	batches, since := make(chan batch, 1), l.at.Snapshot.Since
	go func() {
		defer close(batches)
		defer resp.Body.Close()
		for {
			b := l.readBatch(lines, &since)
			select {
			case batches <- b:
			case <-ctx.Done():
				release(b.text)
				return
			}
			if b.err != nil || b.last {
				return
			}
		}
	}()
	defer func() {
		cancel()
		for b := range batches {
			release(b.text)
		}
	}()
	for b := range batches {
		err := b.err
		if err == nil {
			err = l.writeBatch(ctx, m, b, done)
		}
		release(b.text)
		if err != nil || b.last {
			return err
		}
	}
	return context.Cause(ctx)
}

func (l *loader) writeBatch(ctx context.Context, m *mark, b batch, done finished) error {
	at := l.at
	at.Records += int64(len(b.records))
	at.Snapshot.Lines += int64(len(b.records))
	at.Snapshot.Place.Byte = b.end
	at.Read = b.last
	if n := at.Snapshot.Lines; n > done.Count || b.last && n != done.Count {
		return fmt.Errorf("%w: it has %d records at least, and the producer says %d", errJob, n, done.Count)
	}
	return l.write(ctx, m, b.records, b.text.Len(), at)
}

// download asks for a result from the place that was reached: compressed from the start, and otherwise as it is, for
// nobody can begin in the midst of what is compressed. A producer that answers with all of it is read from the start.
func (l *loader) download(ctx context.Context, done finished) (*http.Response, *lineReader, error) {
	place := l.at.Snapshot.Place
	header := http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"gzip"}}
	if l.client.near || place.Byte > 0 {
		header.Set("Accept-Encoding", "identity")
	}
	if place.Byte > 0 {
		// From the byte before it: there may be none behind.
		header.Set("Range", fmt.Sprintf("bytes=%d-", place.Byte-1))
		if place.Tag != "" {
			header.Set("If-Range", place.Tag)
		}
	}
	resp, err := l.client.as(forLoad).stream(ofTask(ctx), done.Href, header)
	switch {
	case errors.Is(err, errOrigin), errors.Is(err, errNoTasks):
		return nil, nil, fmt.Errorf("%w: %w", errJob, err)
	case err != nil && ctx.Err() == nil:
		return nil, nil, fmt.Errorf("%w: %w", errCut, err)
	case err != nil:
		return nil, nil, err
	}
	lines, err := l.open(resp, done)
	if err != nil {
		resp.Body.Close()
	}
	return resp, lines, err
}

// open looks at the head of a download, and notes where it begins.
func (l *loader) open(resp *http.Response, done finished) (*lineReader, error) {
	s, h := &l.at.Snapshot, resp.Header
	encoding := strings.ToLower(h.Get("Content-Encoding"))
	zipped := encoding == "gzip"
	switch resp.StatusCode {
	case http.StatusOK:
		s.Place, s.Lines, l.at.Records = snapshotPlace{}, 0, 0
	case http.StatusPartialContent:
		// Without a tag to compare, the headers say that it is the same result: it is made once.
		from := "bytes " + strconv.FormatInt(s.Place.Byte-1, 10) + "-"
		if s.Place.Byte == 0 || zipped || !strings.HasPrefix(h.Get("Content-Range"), from) || s.Place.Tag != "" && s.Place.Tag != h.Get("ETag") {
			return nil, fmt.Errorf("%w: its result: %w: another part than was asked for", errJob, errUnexpected)
		}
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return nil, fmt.Errorf("%w: %w", errCut, refusalOf(resp))
	default:
		if resp.StatusCode >= 500 {
			return nil, fmt.Errorf("%w: %w", errCut, refusalOf(resp))
		}
		return nil, fmt.Errorf("%w: its result: %w", errJob, refusalOf(resp))
	}
	if !zipped && encoding != "" && encoding != "identity" {
		return nil, fmt.Errorf("%w: its result: %w: an encoding that was not asked for", errJob, errUnexpected)
	}
	if h.Get(afterHeader) != done.Sequence.String() || h.Get(throughHeader) != done.Through.String() {
		return nil, fmt.Errorf("%w: its result: %w: made at another time than the task says", errJob, errUnexpected)
	}
	body := io.Reader(&cuts{resp.Body})
	if zipped {
		zip, err := gzip.NewReader(body)
		if err != nil {
			return nil, damage(short(err))
		}
		body = &unzipped{zip}
	} else {
		s.Place.Tag = h.Get("ETag")
	}
	lines := &lineReader{lines: bufio.NewReaderSize(body, 64<<10), at: s.Place.Byte}
	if s.Place.Byte > 0 {
		if _, err := lines.lines.Discard(1); err != nil {
			return nil, short(err)
		}
	}
	return lines, nil
}

// refusalOf reads what a download has instead of a result, as much of it as comes.
func refusalOf(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return problemOf(resp, text)
}

// readBatch reads as many lines as are written at once. Another goroutine writes meanwhile.
func (l *loader) readBatch(lines *lineReader, since *entityevent.Sequence) batch {
	b := batch{text: buffers.Get().(*bytes.Buffer)}
	b.text.Reset()
	b.text.WriteString(`{"value":[`) // as a page has them, which is read in one go
	n := 0
	for n < commitRows && b.text.Len() < commitBytes && !b.last {
		err := lines.next(b.text)
		if err == nil {
			n++
			b.text.WriteByte(',')
			continue
		}
		if b.last = errors.Is(err, io.EOF); !b.last && (n == 0 || !errors.Is(err, errCut)) {
			return batch{text: b.text, err: err}
		}
		break // after a cut what came before it counts
	}
	b.end = lines.at
	if n > 0 {
		b.text.Truncate(b.text.Len() - 1)
	}
	b.text.WriteString("]}")
	b.records = make([]entityevent.Change, 0, n)
	_, err := entityevent.ReadPage(b.text.Bytes(), l.key.Name, func(key string, record []byte) error {
		if key == "" || !lines.begin.of(record, l.resource) {
			return errUnexpected
		}
		b.records = append(b.records, entityevent.Change{
			Ref: entityevent.Ref{Resource: l.resource, Key: key}, Body: slices.Clip(record), UnchangedSince: since, Pass: l.pass,
		})
		return nil
	})
	if err != nil || len(b.records) != n {
		return batch{text: b.text, err: fmt.Errorf("%w: %w: a line that is no record of %s with its key %s", errJob, errUnexpected, l.resource, l.key.Name)}
	}
	return b
}

// beginning is how records begin that are known to be of a resource.
type beginning []byte

// of says whether a record is of a resource (RCP-25).
func (b *beginning) of(record []byte, resource string) bool {
	if len(*b) > 0 && bytes.HasPrefix(record, *b) {
		return true
	}
	if !ofResourceContext(entityevent.StringMember(record, "@reso.context"), resource) {
		return false
	}
	if start := []byte(`{"@reso.context":"`); bytes.HasPrefix(record, start) {
		if n := bytes.IndexByte(record[len(start):], '"'); n >= 0 {
			*b = bytes.Clone(record[:len(start)+n+1])
		}
	}
	return true
}

// ofResourceContext says whether a context is that of a resource (RCP-25).
func ofResourceContext(context, resource string) bool {
	return strings.HasSuffix(strings.ToLower(context), ":resource:"+strings.ToLower(resource))
}

// lineReader reads the lines of a result.
type lineReader struct {
	lines *bufio.Reader
	at    int64 // the byte of the result at which the next one begins
	err   error // that ended it
	begin beginning
}

// next appends a line to a text, without its end. io.EOF: there is none. After an error it returns that error.
func (r *lineReader) next(text *bytes.Buffer) error {
	start := text.Len()
	for r.err == nil {
		part, err := r.lines.ReadSlice('\n')
		text.Write(part)
		switch n := text.Len() - start; {
		case err == nil:
			r.at += int64(n)
			text.Truncate(start + n - 1)
			return nil
		case errors.Is(err, bufio.ErrBufferFull) && n > maxAnswer:
			r.err = fmt.Errorf("%w: %w", errJob, errLarge)
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && n > 0:
			r.err = fmt.Errorf("%w: %w: its last line has no end", errJob, errUnexpected)
		default:
			r.err = err
		}
	}
	text.Truncate(start)
	return r.err
}

// unzipped is what was compressed.
type unzipped struct{ *gzip.Reader }

func (u *unzipped) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	return n, damage(err)
}

// damage tells what is no gzip from what ended early.
func damage(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.As(err, &corrupt):
		return fmt.Errorf("%w: its result is damaged: %w", errJob, err)
	case errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errCut):
		return fmt.Errorf("%w: %w", errCut, err)
	}
	return err
}

// short is an error of an answer that cannot be over yet.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errCut, io.ErrUnexpectedEOF)
	}
	return err
}

// cuts is a body whose failures are cuts.
type cuts struct{ io.Reader }

func (c *cuts) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", errCut, err)
	}
	return n, err
}
