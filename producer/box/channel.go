package box

import (
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/resosync/resosync/producer"
)

// The life of a channel.
const (
	lifetime   = 10 * time.Minute
	maxRetries = 10 // beside the first use
	// Clients that follow the documents of that API open one for each batch of events.
	maxChannels = 20_000
	maxOwn      = 2_000 // of one client
	maxUnknown  = 1_000
	nameLength  = 26 // as rand.Text makes them
)

// channel is where one stream of a client waits. Its name is its credential.
type channel struct {
	name   string
	client producer.Client
	ends   time.Time
	uses   int
	ended  bool
	held   []*producer.Hold
}

func (c *channel) open() bool { return !c.ended && time.Now().Before(c.ends) }

// channels are those that are open. Neither their number nor their memory grows beyond a bound: one more ends an older
// one, whose next use is told to reconnect as after its lifetime. The zero channels are ready to use.
type channels struct {
	mu    sync.Mutex
	named map[string]*channel
	own   map[string][]*channel // of each client, by age
	// unknown are how often names were used that no open channel has: some clients ask the same url again until they
	// are told of too many uses.
	unknown map[string]int
}

// make opens a channel for a client.
func (s *channels) make(client producer.Client) *channel {
	c := &channel{name: rand.Text(), client: client, ends: time.Now().Add(lifetime)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.named == nil {
		s.named, s.own = map[string]*channel{}, map[string][]*channel{}
	}
	s.trim(client.Name, maxOwn)
	if len(s.named) >= maxChannels {
		most := client.Name
		for name := range s.own {
			if s.trim(name, maxOwn+1); len(s.own[name]) > len(s.own[most]) {
				most = name
			}
		}
		s.trim(most, len(s.own[most]))
	}
	s.named[c.name] = c
	s.own[client.Name] = append(s.own[client.Name], c)
	return c
}

// trim ends the channels of a client that are over, and the oldest until there are fewer than most.
func (s *channels) trim(client string, most int) {
	own := s.own[client]
	for len(own) > 0 && (len(own) >= most || !own[0].open()) {
		own[0].ended = true
		delete(s.named, own[0].name)
		own = own[1:]
	}
	if s.own[client] = own; len(own) == 0 {
		delete(s.own, client)
	}
}

// use counts a use of a channel; nil: there is none of this name that is open.
func (s *channels) use(name string) (c *channel, uses int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c = s.named[name]; c != nil && c.open() {
		c.uses++
		return c, c.uses
	}
	if len(name) != nameLength {
		return nil, 1
	}
	if len(s.unknown) >= maxUnknown {
		clear(s.unknown)
	}
	if s.unknown == nil {
		s.unknown = map[string]int{}
	}
	s.unknown[name]++
	return nil, s.unknown[name]
}

// hold notes that a request waits at a channel, and says whether that is still open.
func (s *channels) hold(c *channel, h *producer.Hold) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.held = append(c.held, h)
	return c.open()
}

// release forgets what hold noted, and says whether the channel is still open.
func (s *channels) release(c *channel, h *producer.Hold) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.held = slices.DeleteFunc(c.held, func(other *producer.Hold) bool { return other == h })
	return c.open()
}

// end ends the channels of a client, and what waits there.
func (s *channels) end(client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.own[client] {
		c.ended = true
		delete(s.named, c.name)
		for _, h := range c.held {
			h.Cut()
		}
	}
	delete(s.own, client)
}
