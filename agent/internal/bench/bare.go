package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// bare is what no server can be better than: it answers every request with the same bytes, and holds those
// that prefer to wait until /news or its end. Its limits are those of the agent.
func bare(address, file string) error {
	answer, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var mu sync.Mutex
	news := make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/news":
			mu.Lock()
			close(news)
			news = make(chan struct{})
			mu.Unlock()
		case r.Header.Get("Prefer") != "":
			mu.Lock()
			woken := news
			mu.Unlock()
			select {
			case <-woken:
			case <-ctx.Done():
			case <-r.Context().Done():
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer) // a client that went away is not measured
	}
	server := &http.Server{Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	go func() { _ = server.Serve(listener) }() // it ends with Shutdown, and says so
	<-ctx.Done()
	return server.Shutdown(context.WithoutCancel(ctx))
}
