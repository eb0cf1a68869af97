// Package chaos is a proxy on loopback that spoils what passes between two agents: it loses, delays, cuts,
// repeats and reorders requests and answers, refuses them, and lets connections die without a word.
package chaos

import (
	"bytes"
	"context"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// Fault is what may befall one request.
type Fault string

// The faults. Whatever is passed on later than it was sent overtakes, and is overtaken by, other requests.
const (
	Lose     Fault = "lose"     // the connection is cut, nothing is passed on
	Late     Fault = "late"     // the connection is cut, and the request is passed on after a while
	Drop     Fault = "drop"     // passed on, and the connection cut in place of an answer
	Truncate Fault = "truncate" // passed on, and the connection cut within the answer
	Delay    Fault = "delay"    // passed on after a while
	Repeat   Fault = "repeat"   // passed on, and after a while once more
	Refuse   Fault = "refuse"   // 429 or 503 with a Retry-After of a second
	Silence  Fault = "silence"  // not passed on, and the connection stays open, silent for ever
)

// Faults are the chance of each, from 0 to 1; what is left over goes well.
type Faults map[Fault]float64

// Proxy passes HTTP requests on to one address.
type Proxy struct {
	URL    string        // where it listens: http://127.0.0.1:port
	While  time.Duration // how long what is late is late, at most. Default 2s.
	target string

	next   *http.Transport
	server *http.Server
	ctx    context.Context // ends with the proxy; it has no caller of its own
	cancel context.CancelFunc
	late   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	faults Faults
	counts map[Fault]int
	conns  map[*conn]bool
}

// New listens in front of target, a host:port, and passes everything on. Close it.
func New(target string) (*Proxy, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{URL: "http://" + listener.Addr().String(), While: 2 * time.Second, target: target,
		next: &http.Transport{MaxIdleConnsPerHost: 10}, counts: map[Fault]int{}, conns: map[*conn]bool{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute, ConnContext: known}
	p.late.Go(func() { _ = p.server.Serve(&tracked{listener, p}) }) // ends with Close
	return p, nil
}

// Close cuts every connection and waits for what is under way.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	err := p.server.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Conn.Close() // a silent one survived its server
	}
	p.mu.Unlock()
	p.late.Wait()
	p.next.CloseIdleConnections()
	return err
}

// Set chooses the faults from now on. nil: none.
func (p *Proxy) Set(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
}

// Counts says how often each fault befell a request, and, as "", how often none.
func (p *Proxy) Counts() map[Fault]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// Freeze makes every connection that there is a half-open one: what is sent on it is taken and goes
// nowhere, and nothing ever comes back. It returns how many; new connections work.
func (p *Proxy) Freeze() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for c := range p.conns {
		if !c.frozen.Swap(true) {
			n++
		}
	}
	return n
}

// draw chooses what befalls a request.
func (p *Proxy) draw() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	dice, chosen := rand.Float64(), Fault("")
	for fault, chance := range p.faults {
		if dice -= chance; dice < 0 {
			chosen = fault
			break
		}
	}
	p.counts[chosen]++
	return chosen
}

// enter admits a request, which Close then waits for.
func (p *Proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.late.Add(1)
	}
	return !p.closed
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.enter() {
		panic(http.ErrAbortHandler)
	}
	defer p.late.Done()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fault := p.draw()
	switch fault {
	case Lose:
		panic(http.ErrAbortHandler)
	case Late:
		p.later(r, body)
		panic(http.ErrAbortHandler)
	case Silence:
		r.Context().Value(connKey{}).(*conn).frozen.Store(true)
		panic(http.ErrAbortHandler)
	case Delay:
		p.sleep(r.Context())
	case Refuse:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[rand.IntN(2)])
		return
	default:
	}
	a, err := p.forward(r.Context(), r, body)
	switch {
	case err != nil, fault == Drop:
		panic(http.ErrAbortHandler)
	case fault == Repeat:
		p.later(r, body)
	}
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	if fault == Truncate {
		_, _ = w.Write(a.body[:len(a.body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(a.body) // who does not listen any more misses it
}

// answer is a whole one.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// forward passes a request on and returns the answer.
func (p *Proxy) forward(ctx context.Context, r *http.Request, body []byte) (answer, error) {
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host, out.Host, out.RequestURI = "http", p.target, p.target, ""
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp, err := p.next.RoundTrip(out)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, text}, err
}

// later passes a request on after a while; nobody hears the answer.
func (p *Proxy) later(r *http.Request, body []byte) {
	r = r.Clone(p.ctx)
	p.late.Go(func() {
		p.sleep(p.ctx)
		_, _ = p.forward(p.ctx, r, body)
	})
}

func (p *Proxy) sleep(ctx context.Context) {
	t := time.NewTimer(rand.N(p.While))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
