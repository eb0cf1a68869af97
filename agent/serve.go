package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/config"
)

// How long an agent may take to stop: its requests, all of its work, and the release of what it holds.
// What is not done then ends with the process; nothing that was answered is lost by it.
const (
	requestDeadline = 5 * time.Second
	workDeadline    = 8 * time.Second
	closeDeadline   = 2 * time.Second
)

// The limits of the HTTP server. There is no limit on the time of a whole request or answer: long polls
// are held, and imports stream. What is between two bytes of them is the front's to limit.
const (
	headerTimeout  = 15 * time.Second // of a TLS handshake, too
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10 // URLs to 32 KB, with room for the rest
	maxStreams     = 250      // requests under way on one connection of HTTP/2
)

// serve runs one agent until ctx ends, and then stops it cleanly: pushers keep their positions, the
// appliers finish their commits, requests under way are answered, waiting ones are ended. listener is
// where it answers; nil: as the configuration says. up is called with its address when it answers.
func serve(ctx context.Context, c *config.Config, logger *slog.Logger, listener net.Listener, up func(url string)) (err error) {
	var end teardown
	defer func() { err = errors.Join(err, end.runWithin(closeDeadline)) }()

	if err := shareFiles(c).check(); err != nil {
		return err
	}
	held, err := waitFolder(ctx, c.Data, "run")
	if err != nil {
		return err
	}
	end.add("release data folder", held.Close)

	if listener == nil {
		if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", c.Listen); err != nil {
			return fmt.Errorf("listen: %w: choose another address in %q", err, "listen")
		}
	}
	end.add("close listener", ignoreClosed(listener.Close))
	address := localURL(scheme(c), listener.Addr().String())

	logger = slog.New(requestLog{logger.Handler()})
	a, err := open(ctx, c, held, publicURL(c, address), logger)
	if err != nil {
		return err
	}
	end.add("close agent", a.Close)
	if err := a.setProfiles(ctx); err != nil {
		return err
	}

	if err := held.announce("run", address); err != nil {
		return err
	}

	group, running := errgroup.WithContext(ctx)
	server, err := newServer(c, newFront(c, a.gate, logger, a.routes(running)), logger)
	if err != nil {
		return err
	}
	connections := conns{most: a.files.conns, logger: logger}
	connections.attend(server)
	server.RegisterOnShutdown(a.holds.Drain)
	group.Go(func() error { return a.push(running) })
	group.Go(func() error { return a.sweep(running) })
	group.Go(named("tasks", func() error { return a.tasks.Run(running) }))
	for _, f := range a.feeds {
		group.Go(named("feed "+f.Name, func() error { return f.Apply(running) }))
		group.Go(named("feed "+f.Name, func() error { return f.Follow(running) }))
		group.Go(named("feed "+f.Name, func() error { return f.ReconcileOnSchedule(running) }))
		group.Go(named("feed "+f.Name, func() error { return f.KeepRegistered(running) }))
	}
	group.Go(func() error { return a.deregister(running) })
	group.Go(func() error { return a.probe.run(running) })
	group.Go(func() error { return a.watch(running) })
	group.Go(named("profiles", func() error { return a.review.run(running) }))
	group.Go(named("compact", func() error { return a.compaction.run(running) }))
	group.Go(func() error {
		answer := server.Serve
		if server.TLSConfig != nil {
			answer = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		if err := answer(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-running.Done()
		return shutdown(context.WithoutCancel(running), server)
	})
	logger.Info("running", "name", c.Name, "address", address, "feeds", len(a.feeds), "subscriptions", len(a.subscriptions))
	up(address)
	return stop(ctx, group, logger)
}

// newServer is the HTTP server of an agent: over TLS with HTTP/2 or without, or plain, where a proxy may speak
// HTTP/2 all the same.
func newServer(c *config.Config, handler http.Handler, logger *slog.Logger) (*http.Server, error) {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: patience, PingTimeout: patience / 2, WriteByteTimeout: patience},
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		// Else OPTIONS * goes past the front, and waits for its body without end.
		DisableGeneralOptionsHandler: true,
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(c.TLS != nil)
	server.Protocols.SetUnencryptedHTTP2(c.TLS == nil && len(c.TrustedProxies) > 0)
	if c.TLS != nil {
		certificate, err := openCertificate(*c.TLS, logger)
		if err != nil {
			return nil, err
		}
		server.TLSConfig = certificate.server()
	}
	return server, nil
}

var errSlowStop = fmt.Errorf("some of the agent's work did not stop within %v", workDeadline)

// shutdown lets requests under way end, and cuts those that do not.
func shutdown(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, requestDeadline)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("requests that did not end within %v were cut", requestDeadline)
	}
	return errors.Join(err, server.Close())
}

// stop waits for the end of the group, which follows the end of ctx within the deadline.
func stop(ctx context.Context, group *errgroup.Group, logger *slog.Logger) error {
	ended := make(chan error, 1)
	go func() { ended <- group.Wait() }()
	select {
	case err := <-ended:
		return clean(err)
	case <-ctx.Done():
		logger.Info("stopping")
	}
	select {
	case err := <-ended:
		if clean(err) == nil {
			logger.Info("stopped")
		}
		return clean(err)
	case <-time.After(workDeadline):
		return errSlowStop
	}
}

// clean drops what is no failure: the end that was asked for.
func clean(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func named(what string, run func() error) func() error {
	return func() error {
		if err := clean(run()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
}

func ignoreClosed(closing func() error) func() error {
	return func() error {
		if err := closing(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// scheme is how an agent is spoken to where it listens.
func scheme(c *config.Config) string {
	if c.TLS != nil {
		return "https"
	}
	return "http"
}

// localURL is where this machine reaches what listens on an address.
func localURL(scheme, address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return scheme + "://" + address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// publicURL is how others reach an agent that listens on this machine at local.
func publicURL(c *config.Config, local string) string {
	if c.PublicURL != "" {
		return c.PublicURL
	}
	return local
}
