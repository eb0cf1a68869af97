package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

// hitch lets so many requests of a kind fail, and says how often one did.
type hitch struct {
	next         wire
	method, path string
	fail         func(*http.Request) (*http.Response, error)
	left, failed int
}

func (f *hitch) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.left > 0 && (f.method == "" || f.method == r.Method) && strings.HasSuffix(r.URL.Path, f.path) {
		f.left--
		f.failed++
		return f.fail(r)
	}
	return f.next(r)
}

func declining(status int, retryAfter string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return to(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			declined(w, status, "not now")
		}))(r)
	}
}

func cutOff(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection reset by peer")
}

func halfSent(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"val`), cutShort{})), Request: r}, nil
}

// Whatever is cut or refused for a while, and for much longer than a request is repeated, is asked for again, and it
// ends with what it finds.
func TestVerifyAsksAgain(t *testing.T) {
	for what, fail := range map[string]func(*http.Request) (*http.Response, error){
		"nobody listens": cutOff, "cut": halfSent, "503": declining(503, ""), "503 for a minute": declining(503, "60"), "429": declining(429, "7"),
		"502": declining(502, ""), "408": declining(408, ""),
	} {
		for where, at := range map[string][2]string{
			"links": {"GET", ".test/"}, "digest": {"POST", "/tasks"}, "task": {"GET", "/tasks/0"}, "result": {"GET", "/tasks/0/result"},
			"log": {"GET", "/EntityEvent"}, "records": {"GET", "/Property"},
		} {
			if what == "408" && where == "links" {
				continue // it offers nothing
			}
			t.Run(what+", "+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := making(50)
					f := newFeed(t, to(m.source), "Property")
					catchUp(t, f)
					plant(t, f, planted("P0007", entityevent.Put, property("P0007", 999)))
					n := &hitch{next: to(m), method: at[0], path: strings.TrimPrefix(at[1], ".test"), fail: fail, left: 15}
					f = newFeedOn(f.Store, wire(n.RoundTrip))
					troubles := map[string]bool{}
					v, err := f.Verify(t.Context(), func(p consumer.VerifyProgress) { troubles[p.Trouble] = true })
					if err != nil || len(v.Resources) != 1 || v.Resources[0].Differences != 1 {
						t.Fatalf("%v, %+v", err, v)
					}
					if n.failed != 15 || len(troubles) < 2 || !troubles[""] {
						t.Errorf("%d requests failed, told of %v", n.failed, troubles)
					}
				})
			})
		}
	}
}

// What the producer settles ends it, after few requests.
func TestVerifyGivesUpWhatIsSettled(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 422, 501} {
		synctest.Test(t, func(t *testing.T) {
			f := newFeed(t, to(filled("log-1/all", 5)), "Property")
			catchUp(t, f)
			for _, path := range []string{"/tasks", "/tasks/0", "/tasks/0/result"} {
				m, failed := making(5), 0
				f = newFeedOn(f.Store, wire(func(r *http.Request) (*http.Response, error) {
					if strings.HasSuffix(strings.Replace(r.URL.Path, "/tasks/1", "/tasks/0", 1), path) { // the second one too
						failed++
						return declining(status, "")(r)
					}
					return to(m)(r)
				}))
				if v, err := f.Verify(t.Context(), nil); err == nil || v.Equal || failed > 4 {
					t.Errorf("%d at %s: %v after %d requests", status, path, err, failed)
				} else if status == 422 && path != "/tasks/0/result" && !strings.Contains(err.Error(), "not now; compare keys and timestamps instead: resosync reconcile mls") {
					t.Errorf("%d at %s: %v", status, path, err)
				}
			}
		})
	}
}

// A digest that is lost or cancelled is begun once more, but not time and again.
func TestVerifyBeginsALostDigestOnceMore(t *testing.T) {
	for what, status := range map[string]int{"lost": 404, "cancelled": 422} {
		for _, path := range []string{"", "/result"} {
			for lost := 1; lost <= 2; lost++ {
				t.Run(fmt.Sprintf("%s %d times %s", what, lost, path), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						m := making(50)
						f := newFeed(t, to(m.source), "Property")
						catchUp(t, f)
						m.answer = func(w http.ResponseWriter, r *http.Request) bool {
							for i := range lost {
								if r.Method == http.MethodGet && r.URL.Path == fmt.Sprintf("/tasks/%d%s", i, path) {
									declined(w, status, "no more")
									return true
								}
							}
							return false
						}
						f = newFeedOn(f.Store, to(m))
						v, err := f.Verify(t.Context(), nil)
						if again := lost == 1; v.Equal != again || (err == nil) != again || err != nil && !strings.Contains(err.Error(), "no more") {
							t.Errorf("%v, %+v", err, v)
						}
						if n := m.tasks(t); n != 2 {
							t.Errorf("%d digests", n)
						}
					})
				})
			}
		}
	}
}

// It ends when it is told to, whatever it waits for, also where the producer wants no requests for an hour: then it does
// not wait to tell it that a digest is no longer needed.
func TestVerifyEnds(t *testing.T) {
	const patience = 30*time.Hour + 30*time.Minute // between two turns
	for what, fail := range map[string]func(*http.Request) (*http.Response, error){"cut": cutOff, "503": declining(503, "3600")} {
		for _, path := range []string{"/tasks", "/tasks/0", "/result", "/EntityEvent"} {
			t.Run(what+" "+path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := making(5)
					f := newFeed(t, to(m.source), "Property")
					catchUp(t, f)
					n := &hitch{next: to(m), path: path, fail: fail, left: 100_000}
					f = newFeedOn(f.Store, wire(n.RoundTrip))
					enough := errors.New("enough")
					ctx, cancel := context.WithTimeoutCause(t.Context(), patience, enough)
					defer cancel()
					began := time.Now()
					_, err := f.Verify(ctx, nil)
					if took := time.Since(began); !errors.Is(err, enough) || took < patience || took > patience+10*time.Second {
						t.Errorf("%v after %s", err, took)
					}
					if n.failed > 4*30*60*2 {
						t.Errorf("%d requests in %s", n.failed, patience)
					}
				})
			})
		}
	}
}
