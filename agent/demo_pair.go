package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/entityevent/bearer"
)

// pair is the two agents of a demonstration.
type pair struct {
	producer, consumer *demoAgent
	writer             string // an API token that may read and write at the producer
	reader             string // the consumer's
	running            errgroup.Group
	watch              watch
}

// demoAgent is one of the two: its configuration, and a session with it.
type demoAgent struct {
	file     string // of the configuration
	data     string
	url      string
	listener net.Listener
	cancel   context.CancelFunc // nil until it runs
	session  *session
}

func (a *demoAgent) store() string { return filepath.Join(a.data, storeFile) }

// demoFeed is the consumer's name of the producer.
const demoFeed = "mls"

// demoLabel is the consumer's label of the feed (RCP-28).
const demoLabel = "Demo Feed"

// newPair writes the two configurations, as their owners would, and exchanges the tokens: the producer
// issues one for reading, the consumer one for pushing.
func (d *demo) newPair(ctx context.Context) (p *pair, err error) {
	p = new(pair)
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	if p.producer, err = d.newAgent(ctx, "producer"); err != nil {
		return p, err
	}
	if p.consumer, err = d.newAgent(ctx, "consumer"); err != nil {
		return p, err
	}
	if err = p.writeProducer(""); err != nil {
		return p, err
	}
	if p.writer, err = d.issue(ctx, p.producer, tokenRequest{Client: "listing-system"}); err != nil {
		return p, err
	}
	if p.reader, err = d.issue(ctx, p.producer, tokenRequest{Client: "vendor"}); err != nil {
		return p, err
	}
	if err = p.writeConsumer(); err != nil {
		return p, err
	}
	push, err := d.issue(ctx, p.consumer, tokenRequest{Feed: demoFeed})
	if err != nil {
		return p, err
	}
	return p, p.writeProducer(push)
}

func (d *demo) newAgent(ctx context.Context, name string) (*demoAgent, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &demoAgent{file: filepath.Join(d.dir, name+".yaml"), data: filepath.Join(d.dir, name), url: localURL("http", listener.Addr().String()), listener: listener}, nil
}

// writeProducer writes the producer's configuration; without a push token it has no subscription yet.
func (p *pair) writeProducer(push string) error {
	text := fmt.Sprintf(`# The producer of a resosync demo.
name: demo-producer
data: %q
listen: %s
producer:
  clients:
    - {name: listing-system, scopes: [read, write]}
    - {name: vendor, scopes: [read, subscribe]}
  allow_callbacks: [127.0.0.0/8]
`, p.producer.data, p.producer.listener.Addr())
	if push != "" {
		text += fmt.Sprintf(`  subscriptions:
    - {name: vendor, client: vendor, url: "%s/webhooks/%s", token: %q, label: %q}
`, p.consumer.url, demoFeed, push, demoLabel)
	}
	return os.WriteFile(p.producer.file, []byte(text), 0o600)
}

func (p *pair) writeConsumer() error {
	return os.WriteFile(p.consumer.file, fmt.Appendf(nil, `# The consumer of a resosync demo.
name: demo-consumer
data: %q
listen: %s
consumer:
  feeds:
    - name: %s
      url: %s/odata
      token: %q
      resources: [Property, Member, Office, Media]
      push: {label: %q}
`, p.consumer.data, p.consumer.listener.Addr(), demoFeed, p.producer.url, p.reader, demoLabel), 0o600)
}

// issue lets an agent that does not run yet issue a token.
func (d *demo) issue(ctx context.Context, a *demoAgent, q tokenRequest) (token string, err error) {
	err = d.offline(ctx, a, func(s *session) error {
		var issued struct {
			Token  string       `json:"token"`
			Issued bearer.Token `json:"issued"`
		}
		err := s.call(ctx, http.MethodPost, "/admin/tokens", q, &issued)
		token = issued.Token
		return err
	})
	return token, err
}

// offline opens a session with an agent that does not run.
func (d *demo) offline(ctx context.Context, a *demoAgent, use func(*session) error) error {
	c, err := config.Load(a.file)
	if err != nil {
		return err
	}
	s, err := d.dial(ctx, c, "demo")
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.close())
}

// start runs an agent, as `resosync run` does, and opens a session with it.
func (d *demo) start(ctx context.Context, p *pair, a *demoAgent) error {
	c, err := config.Load(a.file)
	if err != nil {
		return err
	}
	ctx, a.cancel = context.WithCancel(ctx)
	up, ended := make(chan struct{}), make(chan error, 1)
	p.running.Go(func() error {
		err := serve(ctx, c, d.logger(slog.LevelError), a.listener, func(string) { close(up) })
		ended <- err
		return err
	})
	select {
	case <-up:
	case err := <-ended:
		return err
	}
	a.session, err = dialAgent(a.data, readHolder(a.data))
	return err
}

// stop ends both agents, the consumer first, so that neither misses the other.
func (p *pair) stop() error {
	p.watch.stop()
	var all []error
	for _, a := range []*demoAgent{p.consumer, p.producer} {
		if a == nil {
			continue
		}
		if a.session != nil {
			all = append(all, a.session.close())
		}
		if a.cancel != nil {
			a.cancel() // its end closes the listener
		} else {
			all = append(all, a.listener.Close())
		}
	}
	return errors.Join(append(all, p.running.Wait())...)
}
