package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/retry"
)

const (
	eventsPage = 1000
	holdFor    = 30 * time.Second // a poll, while there is nothing new
	// followEvery is how often a log is read again that nobody holds a poll of.
	followEvery = 2 * time.Second
)

func (p *program) eventsCommand() *cobra.Command {
	var q eventsQuery
	var after string
	c := &cobra.Command{
		Use:   "events",
		Short: "Read the log of events",
		Long: `events prints the events of a log, oldest first: sequence, resource, key. The log is that of a feed of this agent,
or, with --url, that of any server that offers EntityEvent (RCP-27).`,
		Example: `  resosync events --after 1200
  resosync events --follow --after now
  resosync events --limit 10 --url https://sync.acme.example/odata --token "$ACME_TOKEN"`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case q.url == "" && q.token != "":
				return usagef("--token goes with --url")
			case q.url != "" && q.feed != "":
				return usagef("--feed goes without --url")
			case q.limit < 0:
				return usagef("--limit must be above 0")
			}
			if after == "now" {
				q.after = -1
			} else if n, err := strconv.ParseInt(after, 10, 64); err == nil && n >= 0 {
				q.after = entityevent.Sequence(n)
			} else {
				return usagef("--after must be a sequence from 0, or now")
			}
			return clean(p.readEvents(c.Context(), q))
		},
	}
	c.Flags().StringVar(&after, "after", "0", "begin after this sequence `N`; now: after the newest")
	c.Flags().IntVar(&q.limit, "limit", 0, "print `N` events at most (default: all)")
	c.Flags().BoolVarP(&q.follow, "follow", "f", false, "go on with new events as they come")
	c.Flags().StringVar(&q.feed, "feed", "", "the `NAME` of the feed (default: the one at /odata)")
	c.Flags().StringVar(&q.url, "url", "", "the service root `URL` of another server")
	c.Flags().StringVar(&q.token, "token", "", "the bearer `TOKEN` for --url")
	return c
}

type eventsQuery struct {
	after      entityevent.Sequence // -1: the newest
	next       string               // the page that the one before leads to; "": none does
	limit      int                  // 0: none
	follow     bool
	feed       string
	url, token string
}

// readEvents prints the log page by page until its end, the limit, or the end of ctx. While nothing new
// comes and no agent runs it gives the data folder back, so that an agent can start.
func (p *program) readEvents(ctx context.Context, q eventsQuery) (err error) {
	s, root, err := p.eventsSession(ctx, q)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if q.after < 0 {
		if q.after, err = s.newest(ctx, root); err != nil {
			return err
		}
	}
	for {
		asked := time.Now()
		page, err := s.events(ctx, root, q)
		if err != nil {
			return err
		}
		for _, e := range page.events {
			if err := p.printEvent(e); err != nil {
				return err
			}
			if q.limit--; q.limit == 0 {
				return nil
			}
		}
		if q.after, q.next = page.through, page.next; len(page.events) > 0 || q.next != "" {
			continue
		}
		if !q.follow {
			return nil
		}
		if time.Since(asked) > followEvery {
			continue // the server held the poll
		}
		if err := s.close(); err != nil {
			return err
		}
		if err := retry.Sleep(ctx, followEvery); err != nil {
			s.close = func() error { return nil }
			return err
		}
		if s, root, err = p.eventsSession(ctx, q); err != nil {
			s = &session{close: func() error { return nil }}
			return err
		}
	}
}

// eventsSession reaches the server that is asked, and says where its service root stands on it.
func (p *program) eventsSession(ctx context.Context, q eventsQuery) (*session, string, error) {
	if q.url != "" {
		root, err := url.Parse(strings.TrimRight(q.url, "/"))
		if err != nil || root.Host == "" || root.Scheme != "http" && root.Scheme != "https" {
			return nil, "", usagef("--url must be an absolute http or https URL")
		}
		return remoteSession(root.Scheme+"://"+root.Host, q.token, http.ProxyFromEnvironment), root.EscapedPath(), nil
	}
	c, err := config.Load(p.configFile)
	if err != nil {
		return nil, "", err
	}
	feed := q.feed
	if feed == "" {
		feed = servedFeed(c)
	}
	if !slices.Contains(feedNames(c), feed) {
		return nil, "", usagef("there is no feed %q; there is: %s", feed, strings.Join(feedNames(c), ", "))
	}
	s, err := p.dial(ctx, c, "events")
	return s, feedPath(c, feed), err
}

// logPage is a page of a log.
type logPage struct {
	events  []entityevent.Event
	through entityevent.Sequence // how far it looked
	next    string               // where more follows; "": nobody says that it does
}

// events asks for the page that q.next names, or for one after q.after; it waits for one if q follows and the
// server can hold requests. Who began at 0 has to come to the end by the links: a position in between may lie
// below what was forgotten.
func (s *session) events(ctx context.Context, root string, q eventsQuery) (logPage, error) {
	size := eventsPage
	if q.limit > 0 {
		size = min(size, q.limit)
	}
	prefer := []string{fmt.Sprintf("odata.maxpagesize=%d", size)}
	if q.follow && s.remote {
		prefer = append(prefer, fmt.Sprintf("wait=%d", holdFor/time.Second))
	}
	path := q.next
	if path == "" {
		path = fmt.Sprintf("%s/EntityEvent?$filter=EntityEventSequence%%20gt%%20%d&$orderby=EntityEventSequence", root, q.after)
	}
	page, err := s.page(ctx, path, prefer...)
	page.through = max(page.through, q.after)
	if err == nil && page.next == path {
		err = errors.New("the server's nextLink leads back to its page")
	}
	return page, err
}

// newest is how far the log goes.
func (s *session) newest(ctx context.Context, root string) (entityevent.Sequence, error) {
	page, err := s.page(ctx, root+"/EntityEvent?$orderby=EntityEventSequence%20desc&$top=1")
	return page.through, err
}

func (s *session) page(ctx context.Context, path string, prefer ...string) (logPage, error) {
	var p logPage
	raw, header, err := s.answer(ctx, path, prefer...)
	if err != nil {
		return p, err
	}
	// A server that does not say how far it looked looked as far as its last event.
	through, _ := strconv.ParseUint(header.Get("EntityEvent-Through"), 10, 63)
	p.through = entityevent.Sequence(through)
	_, err = entityevent.EachRecord(raw, func(record []byte) error {
		one, err := entityevent.ParseEvents(record)
		for _, e := range one {
			p.through = max(p.through, e.Sequence)
		}
		p.events = append(p.events, one...)
		return err
	})
	if err == nil {
		p.next, err = s.below(path, entityevent.StringMember(raw, "@odata.nextLink"))
	}
	return p, err
}

// below returns a link from a page as a path of this server. One that names the server as others know it keeps
// the page's own path.
func (s *session) below(path, link string) (string, error) {
	if link == "" {
		return "", nil
	}
	here, err := url.Parse(s.base + path)
	if err != nil {
		return "", err
	}
	next, err := here.Parse(link)
	if err != nil {
		return "", fmt.Errorf("the server's nextLink is no URL")
	}
	at := next.EscapedPath()
	if next.Host != here.Host {
		at = here.EscapedPath()
	}
	return at + "?" + next.RawQuery, nil
}

func (p *program) printEvent(e entityevent.Event) error {
	if p.json {
		_, err := p.stdout.Write(append(e.AppendJSON(nil), '\n'))
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "%d\t%s\t%s\n", e.Sequence, e.Resource, e.Key)
	return err
}
