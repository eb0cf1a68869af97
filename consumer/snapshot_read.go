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

// snapshotPlace is a place between two lines of a result, as it is sent: it names a byte at which reading can begin,
// and how much from there on, decoded, lies before the place. A result that is sent as gzip is a row of
// independent members (RFC 1952, 2.2), and each can be the first.
type snapshotPlace struct {
	Tag   string `json:"tag,omitempty"` // the ETag of what is sent, encoding and all
	Block int64  `json:"block"`
	Skip  int64  `json:"skip"`
}

// batch is some lines of a result.
type batch struct {
	text    *bytes.Buffer
	records []entityevent.Change // part of text
	place   snapshotPlace        // after the last of them
	last    bool                 // nothing follows
	err     error                // nothing else counts
}

// copyLines downloads a result from the place that was reached, and writes it batch by batch, one being read
// while another is written. With the last batch the resource is read, if there were as many records as the producer
// says.
func (l *loader) copyLines(ctx context.Context, m *mark, done finished) error {
	ctx, cancel := context.WithCancel(ctx)
	resp, lines, err := l.download(ctx, done.Href)
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
	at.Snapshot.Place = b.place
	at.Read = b.last
	if n := at.Snapshot.Lines; n > done.Count || b.last && n != done.Count {
		return fmt.Errorf("%w: it has %d records at least, and the producer says %d", errJob, n, done.Count)
	}
	return l.write(ctx, m, b.records, b.text.Len(), at)
}

// download asks for a result from the place that was reached. A producer that answers with all of it is read from
// the start.
func (l *loader) download(ctx context.Context, href string) (*http.Response, *lineReader, error) {
	place := l.at.Snapshot.Place
	header := http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"gzip"}}
	if l.client.near {
		header.Set("Accept-Encoding", "identity")
	}
	if place.Tag != "" {
		header.Set("Range", fmt.Sprintf("bytes=%d-", place.Block))
		header.Set("If-Range", place.Tag)
	}
	resp, err := l.client.as(forLoad).stream(ctx, href, header)
	if err != nil {
		if errors.Is(err, errOrigin) {
			return nil, nil, fmt.Errorf("%w: %w", errJob, err)
		}
		if ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", errCut, err)
		}
		return nil, nil, err
	}
	tag := resp.Header.Get("ETag")
	switch status := resp.StatusCode; {
	case status == http.StatusPartialContent && place.Tag != "" && tag == place.Tag && startsAt(resp, place.Block):
	case status == http.StatusOK:
		l.at.Snapshot.Place, l.at.Snapshot.Lines, l.at.Records = snapshotPlace{Tag: tag}, 0, 0
	case status == http.StatusUnauthorized, status == http.StatusRequestTimeout, halts(status), status >= 500:
		resp.Body.Close()
		return nil, nil, fmt.Errorf("%w: %w", errCut, &refusal{Status: status})
	default:
		resp.Body.Close()
		return nil, nil, fmt.Errorf("%w: its result: %w", errJob, &refusal{Status: status})
	}
	lines, err := readLines(resp, l.at.Snapshot.Place)
	if err != nil {
		resp.Body.Close()
		return nil, nil, err
	}
	return resp, lines, nil
}

// startsAt says whether a part begins at a byte (RFC 9110, 14.4).
func startsAt(resp *http.Response, at int64) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(at, 10)+"-")
}

// readBatch reads as many lines as are written at once. Another goroutine writes meanwhile.
func (l *loader) readBatch(lines *lineReader, since *entityevent.Sequence) batch {
	b := batch{text: buffers.Get().(*bytes.Buffer)}
	b.text.Reset()
	var ends []int
	for len(ends) < commitRows && b.text.Len() < commitBytes && !b.last {
		err := lines.next(b.text)
		if b.last = errors.Is(err, io.EOF); err != nil && !b.last {
			return batch{text: b.text, err: err}
		}
		if !b.last {
			ends = append(ends, b.text.Len())
		}
	}
	b.place = lines.place()
	b.records = make([]entityevent.Change, 0, len(ends))
	start := 0
	for _, end := range ends {
		record := slices.Clip(b.text.Bytes()[start:end])
		start = end
		key := entityevent.StringMember(record, l.key.Name)
		if key == "" || !ofResourceContext(entityevent.StringMember(record, "@reso.context"), l.resource) {
			return batch{text: b.text, err: fmt.Errorf("%w: %w: a line that is no record of %s with its key %s", errJob, errUnexpected, l.resource, l.key.Name)}
		}
		b.records = append(b.records, entityevent.Change{
			Ref: entityevent.Ref{Resource: l.resource, Key: key}, Body: record, UnchangedSince: since, Pass: l.pass,
		})
	}
	return b
}

// ofResourceContext says whether a context is that of a resource (RCP-25).
func ofResourceContext(context, resource string) bool {
	return strings.HasSuffix(strings.ToLower(context), ":resource:"+strings.ToLower(resource))
}

// lineReader reads the lines of a result, and knows where each of them can be reached again.
type lineReader struct {
	lines *bufio.Reader
	from  snapshotPlace
	read  int64 // decoded bytes, since the first that was received, that are behind
	zip   *members
}

func readLines(resp *http.Response, from snapshotPlace) (*lineReader, error) {
	r := &lineReader{from: from}
	body := &cuts{resp.Body}
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		r.lines = bufio.NewReaderSize(body, 64<<10)
	case "gzip":
		r.zip = openMembers(body, from.Block)
		r.lines = bufio.NewReaderSize(r.zip, 64<<10)
	default:
		return nil, fmt.Errorf("%w: its result is encoded as was not asked for", errJob)
	}
	n, err := io.CopyN(io.Discard, r.lines, from.Skip)
	r.read = n
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: its result is shorter than before", errJob)
	}
	return r, err
}

// next appends a line to a text, without its end. io.EOF: there is none.
func (r *lineReader) next(text *bytes.Buffer) error {
	start := text.Len()
	for {
		part, err := r.lines.ReadSlice('\n')
		text.Write(part)
		r.read += int64(len(part))
		switch {
		case err == nil:
			text.Truncate(text.Len() - 1)
			return nil
		case errors.Is(err, bufio.ErrBufferFull) && text.Len()-start <= maxAnswer:
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%w: %w", errJob, errLarge)
		case errors.Is(err, io.EOF) && text.Len() > start:
			return fmt.Errorf("%w: %w: its last line has no end", errJob, errUnexpected)
		default:
			return err
		}
	}
}

// place is where the next line begins. It never names the end of all bytes, which cannot be asked for.
func (r *lineReader) place() snapshotPlace {
	if r.zip == nil {
		at := r.from.Block + r.read
		if at == 0 {
			return r.from
		}
		return snapshotPlace{Tag: r.from.Tag, Block: at - 1, Skip: 1}
	}
	m := r.zip.holding(r.read)
	return snapshotPlace{Tag: r.from.Tag, Block: m.at, Skip: r.read - m.decoded}
}

// member is one of gzip: where it begins, as it is sent and decoded.
type member struct{ at, decoded int64 }

// members decodes a row of gzip members.
type members struct {
	sent  *counted
	ahead *bufio.Reader // gzip takes from it no more than it needs
	zip   gzip.Reader
	start int64
	began []member // those that are read, from the one of the oldest line that is not behind
	out   int64
	open  bool
}

func openMembers(body io.Reader, at int64) *members {
	m := &members{sent: &counted{Reader: body}, start: at}
	m.ahead = bufio.NewReaderSize(m.sent, 64<<10)
	return m
}

func (m *members) Read(p []byte) (int, error) {
	for {
		if !m.open {
			at := m.start + m.sent.n - int64(m.ahead.Buffered())
			if err := m.zip.Reset(m.ahead); err != nil {
				return 0, damage(err)
			}
			m.zip.Multistream(false)
			m.began, m.open = append(m.began, member{at, m.out}), true
		}
		n, err := m.zip.Read(p)
		m.out += int64(n)
		if errors.Is(err, io.EOF) {
			m.open, err = false, nil
		}
		if n > 0 || err != nil {
			return n, damage(err)
		}
	}
}

// holding returns the member with the byte before a decoded one, and forgets those before it.
func (m *members) holding(decoded int64) member {
	for len(m.began) > 1 && m.began[1].decoded < decoded {
		m.began = m.began[1:]
	}
	if len(m.began) == 0 {
		return member{m.start, 0}
	}
	return m.began[0]
}

// damage tells what is no gzip from what ended early.
func damage(err error) error {
	var corrupt flate.CorruptInputError
	if errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || errors.As(err, &corrupt) {
		return fmt.Errorf("%w: its result is damaged: %w", errJob, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", errCut, err)
	}
	return err
}

// counted counts what is read.
type counted struct {
	io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
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
