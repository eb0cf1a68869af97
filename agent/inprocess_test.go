package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func inProcessClient(t *testing.T, h http.HandlerFunc) *http.Client {
	transport := &inProcess{handler: h}
	t.Cleanup(transport.running.Wait)
	return &http.Client{Transport: transport}
}

func TestInProcessStreamsBothWays(t *testing.T) {
	client := inProcessClient(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header()["EntityId"] = []string{"7"}
		w.WriteHeader(http.StatusAccepted)
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			fmt.Fprintln(w, strings.ToUpper(lines.Text()))
		}
	})
	in, write := io.Pipe()
	resp, err := client.Post("http://agent/echo", "text/plain", in)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Content-Type") != "text/plain" || resp.Header.Get("EntityId") != "7" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
	out := bufio.NewReader(resp.Body)
	for _, word := range []string{"one", "two"} { // each is answered before the next is sent
		if _, err := fmt.Fprintln(write, word); err != nil {
			t.Fatal(err)
		}
		if got, err := out.ReadString('\n'); err != nil || got != strings.ToUpper(word)+"\n" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	write.Close()
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

func TestInProcessTellsACutAnswer(t *testing.T) {
	client := inProcessClient(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half")
		panic(http.ErrAbortHandler)
	})
	resp, err := client.Get("http://agent/cut")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); string(got) != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v; want half, and an error", got, err)
	}
}

func TestInProcessEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client := inProcessClient(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/wait", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestTeardownRunsAllLastInFirstOut(t *testing.T) {
	var order []string
	var all teardown
	for _, name := range []string{"store", "listener", "pool"} {
		all.add(name, func() error {
			order = append(order, name)
			return errors.New("broken " + name)
		})
	}
	err := all.run()
	if got := strings.Join(order, " "); got != "pool listener store" {
		t.Errorf("undone in the order %s", got)
	}
	for _, name := range order {
		if err == nil || !strings.Contains(err.Error(), name+": broken "+name) {
			t.Errorf("the error of %s is lost: %v", name, err)
		}
	}
	if err := all.run(); err != nil || len(order) != 3 {
		t.Errorf("a second run undid again: %v, %v", order, err)
	}
	block := make(chan struct{})
	defer close(block)
	all.add("slow", func() error { <-block; return nil })
	if err := all.runWithin(time.Millisecond); err == nil {
		t.Error("a teardown that hangs was waited for")
	}
}

func TestStaleAfterThreePolls(t *testing.T) {
	at := time.Date(2026, 3, 2, 9, 0, 30, 0, time.UTC)
	for poll, want := range map[string]time.Duration{
		"":            15 * time.Minute,
		"@every 60s":  15 * time.Minute,
		"@every 10m":  30 * time.Minute,
		"*/5 * * * *": 15 * time.Minute,
		"0 * * * *":   2*time.Hour + 59*time.Minute + 30*time.Second,
	} {
		if got := (limit{poll: poll}).stale(at).Sub(at); got != want {
			t.Errorf("poll %q: stale after %v, want %v", poll, got, want)
		}
	}
	if got := (limit{poll: "0 * * * *", after: time.Minute}).stale(at).Sub(at); got != time.Minute {
		t.Errorf("stale after %v, want what the configuration says", got)
	}
}
