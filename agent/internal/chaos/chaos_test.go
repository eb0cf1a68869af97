package chaos_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/resosync/resosync/agent/internal/chaos"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestFaults sends one request through each fault: what the client sees, and how often the server does.
func TestFaults(t *testing.T) {
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "question" {
			t.Errorf("the server reads %q, %v", body, err)
		}
		served.Add(1)
		w.Header().Set("Content-Length", "6")
		_, _ = io.WriteString(w, "answer")
	}))
	defer server.Close()
	p, err := chaos.New(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	p.While = time.Millisecond
	client := &http.Client{}
	defer client.CloseIdleConnections()
	ask := func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, strings.NewReader("question"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.Status[:3] + string(body), err
	}
	for _, c := range []struct {
		fault  chaos.Fault
		want   string // "": the connection is cut
		served int64
	}{
		{"", "200answer", 1}, {chaos.Lose, "", 0}, {chaos.Late, "", 1}, {chaos.Drop, "", 1}, {chaos.Truncate, "200ans", 1},
		{chaos.Delay, "200answer", 1}, {chaos.Repeat, "200answer", 2}, {chaos.Refuse, "4295503", 0}, {chaos.Silence, "", 0},
	} {
		served.Store(0)
		p.Set(chaos.Faults{c.fault: 1})
		ctx, cancel := context.WithCancel(t.Context())
		if c.fault == chaos.Silence {
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond) // no answer is what it waits for
		}
		got, err := ask(ctx)
		cancel()
		cut := c.want == "" || c.fault == chaos.Truncate
		if (got == "" || !strings.Contains(c.want, got)) && c.want != "" || (err != nil) != cut || (c.fault == chaos.Silence) != errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q: %q %v, want %q", c.fault, got, err, c.want)
		}
		for served.Load() < c.served {
			if t.Context().Err() != nil {
				t.Fatalf("%q: the server is asked %d times, want %d", c.fault, served.Load(), c.served)
			}
			time.Sleep(time.Millisecond) // what is late comes later
		}
		if p.Counts()[c.fault] == 0 || served.Load() != c.served {
			t.Errorf("%q: counted %v, asked %d times, want %d", c.fault, p.Counts(), served.Load(), c.served)
		}
	}

	p.Set(nil)
	if got, err := ask(t.Context()); err != nil || got != "200answer" {
		t.Errorf("at last: %q %v", got, err)
	}
	if p.Freeze() == 0 {
		t.Error("there is no connection to freeze")
	}
	served.Store(0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) || served.Load() > 0 {
		t.Errorf("on a half-open connection: %q %v, asked %d times", got, err, served.Load())
	}
	if got, err := ask(t.Context()); err != nil || got != "200answer" {
		t.Errorf("on a new connection: %q %v", got, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
