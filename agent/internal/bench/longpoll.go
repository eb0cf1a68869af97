package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resosync/resosync/entityevent/sqlite"
)

// longPolls measures requests that are held for news beside those of a bare handler: their memory, how soon
// all are answered whom an event concerns, whether others are woken, and how the end of the server ends them.
func (b *bench) longPolls(ctx context.Context) error {
	title("%d requests held for news, HTTP/1.1 (limit: a bare handler that holds and writes the same)", b.waiters)
	answer := []byte(`{"@odata.context":"http://127.0.0.1:43210/odata/$metadata#EntityEvent","value":[{"EntityEventSequence":1001,"ResourceName":"Property",` +
		`"ResourceRecordKey":"00000000-0000-7000-8000-000000001000","ResourceRecordUrl":"http://127.0.0.1:43210/odata/Property('00000000-0000-7000-8000-000000001000')"}]}`)
	handler, err := b.bareServer(ctx, answer)
	if err != nil {
		return err
	}
	floor, err := b.hold(ctx, handler, 0, func() error {
		_, err := get(ctx, http.DefaultTransport, handler.root+"/news")
		return err
	})
	if err != nil {
		return fmt.Errorf("bare handler: %w", err)
	}
	agent, err := b.producer(ctx, func(s *sqlite.Store) error { return fill(ctx, s, 1000, 1000, body) })
	if err != nil {
		return err
	}
	got, err := b.hold(ctx, agent, b.waiters/10, func() error { return agent.write(ctx, "Property", "ListingKey", "news") })
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	fmt.Printf("  %-52s %9.1f KB   bare %9.1f KB  %5.2f times\n", "memory of one", got.memory/1024, floor.memory/1024, got.memory/floor.memory)
	fmt.Printf("  %-52s %12v   bare %12v\n", "from before the write until the last is answered", got.all, floor.all)
	fmt.Printf("  %-52s %12d of %d\n", "woken for nothing, of those who wait for Media", got.woken, b.waiters/10)
	fmt.Printf("  %-52s %12v   bare %12v\n", "from SIGTERM until the last is answered", got.drained, floor.drained)
	fmt.Printf("  %-52s %12v   bare %12v\n", "from SIGTERM until the process has ended", got.ended, floor.ended)
	return nil
}

// held is what was seen of held requests.
type held struct {
	memory  float64       // bytes of one
	all     time.Duration // until all were answered whom an event concerns
	woken   int64         // of the others
	drained time.Duration
	ended   time.Duration
}

// hold holds requests for events of Property, and others for Media, lets an event of Property happen, and
// ends the server.
func (b *bench) hold(ctx context.Context, p *process, others int, news func() error) (h held, err error) {
	for range 100 { // what the first requests need once
		if _, err := p.get(ctx, "/odata/EntityEvent?$top=1"); err != nil {
			return h, errors.Join(err, p.stop())
		}
	}
	before, err := p.memory()
	if err != nil {
		return h, err
	}
	wanting, err := p.wait(ctx, b.waiters, "Property")
	defer wanting.close()
	if err != nil {
		return h, err
	}
	time.Sleep(3 * time.Second) // what their arrival needed is given back
	after, err := p.memory()
	if err != nil {
		return h, err
	}
	h.memory = float64(after-before) / float64(b.waiters)
	rest, err := p.wait(ctx, others, "Media")
	defer rest.close()
	if err != nil {
		return h, err
	}
	time.Sleep(time.Second)

	began := time.Now()
	if err := news(); err != nil {
		return h, err
	}
	if err := wanting.answered(20 * time.Second); err != nil {
		return h, err
	}
	h.all = time.Since(began).Round(time.Millisecond)
	time.Sleep(500 * time.Millisecond)
	h.woken = rest.count.Load()
	wanting.close()
	time.Sleep(500 * time.Millisecond)

	again, err := p.wait(ctx, b.waiters, "Property")
	defer again.close()
	if err != nil {
		return h, err
	}
	time.Sleep(3 * time.Second) // until all are held: who waits to be accepted is cut off
	began = time.Now()
	ended := make(chan error, 1)
	go func() { ended <- p.stop() }()
	if err := errors.Join(again.answered(20*time.Second), rest.answered(time.Second)); err != nil {
		return h, err
	}
	h.drained = time.Since(began).Round(time.Millisecond)
	err = <-ended
	h.ended = time.Since(began).Round(time.Millisecond)
	return h, err
}

// crowd is clients that have asked, each on its own connection, and wait.
type crowd struct {
	conns []net.Conn
	count atomic.Int64 // answered
	group sync.WaitGroup
	mu    sync.Mutex
	err   error
}

// wait sends requests that are held for events of a resource, of two clients by turns: one alone may not have so many.
func (p *process) wait(ctx context.Context, n int, resource string) (*crowd, error) {
	c := &crowd{}
	head, err := p.head(ctx)
	if err != nil {
		return c, err
	}
	address := strings.TrimPrefix(p.root, "http://")
	request := fmt.Sprintf("GET /odata/EntityEvent?$filter=%s HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\nPrefer: wait=120\r\nAuthorization: Bearer ",
		url.QueryEscape(fmt.Sprintf("EntityEventSequence gt %s and ResourceName eq '%s'", head, resource)), address)
	for i := range n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return c, err
		}
		c.conns = append(c.conns, conn)
		token := p.token
		if i%2 > 0 {
			token = p.other
		}
		if _, err := io.WriteString(conn, request+token+"\r\n\r\n"); err != nil {
			return c, err
		}
		c.group.Go(func() { c.read(conn) })
	}
	return c, nil
}

// read reads an answer, with little memory: there are many.
func (c *crowd) read(conn net.Conn) {
	r := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(r, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close() // it was read to its end
		if resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
	}
	c.count.Add(1)
	if err != nil {
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
	}
}

// answered waits until all are.
func (c *crowd) answered(within time.Duration) error {
	done := make(chan struct{})
	go func() { c.group.Wait(); close(done) }()
	select {
	case <-done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.err
	case <-time.After(within):
		return fmt.Errorf("only %d of %d were answered within %v", c.count.Load(), len(c.conns), within)
	}
}

func (c *crowd) close() {
	for _, conn := range c.conns {
		_ = conn.Close() // its answer was read, or is not wanted any more
	}
}
