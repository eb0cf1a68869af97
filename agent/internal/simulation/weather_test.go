package simulation

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// kind is what the network does to one request.
type kind uint8

const (
	carries     kind = iota
	slow             // but it arrives
	refuse           // no connection
	resetBefore      // the other side never saw it
	resetAfter       // the other side acted, and the answer was lost
	lose             // never arrives; the connection stays open
	loseReply        // arrives, the answer does not; the connection stays open
	late             // arrives after the client gave up
	duplicate        // arrives twice
	truncate         // the answer breaks off
	shorten          // the answer is cut, and looks whole
	answer           // somebody on the way answers
	stale            // with what it heard once
	deny             // the producer denies once that a record exists
)

func (k kind) String() string {
	return [...]string{"", "slow", "refuse", "reset before", "reset after", "lose", "lose reply", "late", "duplicate", "truncate", "shorten", "answer", "stale", "deny"}[k]
}

type fault struct {
	kind  kind
	delay time.Duration
	reply *reply
}

func (f fault) String() string {
	if f.kind == carries {
		return ""
	}
	text := " [" + f.kind.String()
	if f.reply != nil {
		text += fmt.Sprint(" ", f.reply.status, " ", f.reply.header.Get("Retry-After"))
	}
	return text + "]"
}

// episode is weather: for a while, one kind of fault on one link or on all.
type episode struct {
	from, to time.Time
	link     string // empty: all
	name     string
	odds     float64
	make     func(r *rand.Rand, link string, req *http.Request) fault
}

func (e episode) String() string {
	return fmt.Sprintf("%v to %v %s on %q", e.from.Sub(epoch), e.to.Sub(epoch), e.name, e.link)
}

// fault decides what happens to a request.
func (n *network) fault(link string, req *http.Request, what string) fault {
	if n.w.quiet() {
		return fault{}
	}
	r, now := n.w.dice("fault"+what), time.Now()
	for _, e := range n.forecast() {
		if now.Before(e.from) || !now.Before(e.to) || e.link != "" && e.link != link {
			continue
		}
		if r.Float64() < e.odds {
			return e.make(r, link, req)
		}
	}
	if r.Float64() < n.w.plan.odds {
		return anything(r, link, req)
	}
	return fault{}
}

func (n *network) forecast() []episode {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.weather
}

// change lets an episode begin that nobody foresaw.
func (n *network) change(e episode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = append([]episode{e}, n.weather...)
}

// anything draws one of all faults.
func anything(r *rand.Rand, link string, req *http.Request) fault {
	push := link != pollLink
	for {
		switch r.IntN(18) {
		case 0:
			return fault{kind: slow, delay: between(r, 0, 20*time.Second)}
		case 1:
			return fault{kind: refuse}
		case 2:
			return fault{kind: resetBefore}
		case 3, 4, 5:
			return fault{kind: resetAfter}
		case 6:
			return fault{kind: lose}
		case 7:
			return fault{kind: loseReply}
		case 8:
			return fault{kind: truncate}
		case 9:
			return fault{kind: shorten}
		case 10:
			return wait(r, link, req)
		case 11:
			return says([]int{500, 502, 504, 408, 400}[r.IntN(5)], "text/plain", "no")
		case 12:
			return wrongRoute(r, link, req)
		case 13:
			if push {
				return fault{kind: late}
			}
			return fault{kind: stale}
		case 14, 15:
			if push {
				return fault{kind: duplicate}
			}
			return fault{kind: deny}
		case 16:
			if push {
				return says([]int{401, 403, 413, 425, 307}[r.IntN(5)], "application/problem+json", `{"title":"no"}`)
			}
			return says(200, "text/html", "<html>please log in</html>")
		case 17:
			if r.IntN(20) == 0 && push {
				return says(410, "text/plain", "gone")
			}
		}
	}
}

func says(status int, kind, body string) fault {
	return fault{kind: answer, reply: &reply{status: status, header: http.Header{"Content-Type": {kind}}, body: []byte(body)}}
}

// wait asks the client to wait, in one of the many ways of saying so.
func wait(r *rand.Rand, _ string, _ *http.Request) fault {
	f := says([]int{429, 503}[r.IntN(2)], "text/plain", "later")
	seconds := 1 + r.IntN(300)
	switch r.IntN(12) {
	case 0: // no word of how long
		return f
	case 1:
		f.reply.header.Set("Retry-After", "soon")
		return f
	case 2:
		f.reply.header.Set("Retry-After", "-1")
		return f
	case 3:
		f.reply.header.Set("Retry-After", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		return f
	case 4:
		f.reply.header.Set("Retry-After", "0")
		return f
	case 5, 6:
		f.reply.header.Set("Retry-After", time.Now().Add(time.Duration(seconds)*time.Second).UTC().Format(http.TimeFormat))
		return f
	case 7:
		seconds = 1800 + r.IntN(7200)
	}
	f.reply.header.Set("Retry-After", fmt.Sprint(seconds))
	return f
}

func wrongRoute(*rand.Rand, string, *http.Request) fault {
	return says(404, "text/html; charset=utf-8", "<!DOCTYPE html><html><body><pre>Cannot GET</pre></body></html>")
}

func nothingHere(*rand.Rand, string, *http.Request) fault {
	return says(404, "application/json", `{"error":{"code":"404","message":"Not found"}}`)
}

func badGateway(r *rand.Rand, _ string, _ *http.Request) fault {
	return says([]int{500, 502, 503, 504}[r.IntN(4)], "text/html", "<html>Bad gateway</html>")
}

func silence(r *rand.Rand, _ string, _ *http.Request) fault {
	return fault{kind: []kind{lose, loseReply}[r.IntN(2)]}
}

func partition(r *rand.Rand, _ string, _ *http.Request) fault {
	return fault{kind: []kind{refuse, lose}[r.IntN(2)]}
}

func lostReplies(*rand.Rand, string, *http.Request) fault { return fault{kind: resetAfter} }

func refusedToken(*rand.Rand, string, *http.Request) fault {
	return says(401, "application/json", `{"error":{"code":"401","message":"Unauthorized"}}`)
}

// noRecords answers as a producer does that has lost all its records, or shows another client's.
func noRecords(_ *rand.Rand, _ string, req *http.Request) fault {
	switch path := req.URL.Path; {
	case strings.HasSuffix(path, "/EntityEvent"), strings.HasSuffix(path, "/$metadata"):
		return fault{}
	case strings.Contains(path, "('"):
		return nothingHere(nil, "", nil)
	}
	return says(200, "application/json", `{"value":[]}`)
}

// climate draws the weather of a run.
func climate(r *rand.Rand, begin, end time.Time, empties bool) (list []episode) {
	if empties {
		from := begin.Add(time.Duration(r.Int64N(int64(end.Sub(begin)))))
		list = append(list, episode{from: from, to: from.Add(between(r, 5*time.Minute, 90*time.Minute)), name: "no records", link: pollLink, odds: 1, make: noRecords})
	}
	kinds := []struct {
		name    string
		odds    float64
		longest time.Duration
		make    func(*rand.Rand, string, *http.Request) fault
	}{
		{"anything", 0.4, 30 * time.Minute, anything},
		{"partition", 1, 3 * time.Hour, partition},
		{"half-open", 1, 20 * time.Minute, silence},
		{"wait", 0.6, 20 * time.Minute, wait},
		{"wrong route", 1, time.Hour, wrongRoute},
		{"nothing here", 1, 2 * time.Hour, nothingHere},
		{"bad gateway", 0.9, time.Hour, badGateway},
		{"lost replies", 0.7, 20 * time.Minute, lostReplies},
		{"refused token", 1, 10 * time.Minute, refusedToken},
	}
	for range r.IntN(7) {
		k := kinds[r.IntN(len(kinds))]
		from := begin.Add(time.Duration(r.Int64N(int64(end.Sub(begin)))))
		e := episode{from: from, to: from.Add(between(r, 5*time.Second, k.longest)), name: k.name, odds: k.odds, make: k.make}
		if r.IntN(3) > 0 {
			e.link = []string{pollLink, pushLink, witnessLink}[r.IntN(3)]
		}
		if e.link != pollLink && (k.name == "nothing here" || k.name == "wrong route" || k.name == "refused token") && r.IntN(3) > 0 {
			e.link = pollLink
		}
		if k.name == "nothing here" { // nothing else gets through in between: what a server denies twice counts
			list = slices.Insert(list, 0, e)
			continue
		}
		list = append(list, e)
	}
	return list
}

// deny lets the producer say once that a record does not exist which does: never twice within five minutes,
// for what a server says twice counts.
func (n *network) deny(req *http.Request, got *reply) *reply {
	path := req.URL.EscapedPath()
	resource, key, single := strings.Cut(path[strings.LastIndex(path[:strings.IndexAny(path+"(", "(")], "/")+1:], "(")
	if got.status != http.StatusOK || resource == "EntityEvent" || resource == "$metadata" {
		return got
	}
	if single {
		text, err := url.PathUnescape(strings.TrimSuffix(key, ")"))
		text = strings.TrimSuffix(strings.TrimPrefix(text, "'"), "'") // one of each: a key may begin with quotes
		if text = strings.ReplaceAll(text, "''", "'"); err == nil && n.mayDeny(entityevent.Ref{Resource: resource, Key: text}) {
			return nothingHere(nil, "", nil).reply
		}
		return got
	}
	var page map[string]json.RawMessage
	var records []json.RawMessage
	if filter := req.URL.Query().Get("$filter"); !strings.Contains(filter, " in ") && !strings.Contains(filter, " eq ") ||
		json.Unmarshal(got.body, &page) != nil || json.Unmarshal(page["value"], &records) != nil || len(records) == 0 {
		return got
	}
	var keys map[string]any
	if json.Unmarshal(records[0], &keys) != nil || !n.mayDeny(entityevent.Ref{Resource: resource, Key: fmt.Sprint(keys[keyField[resource]])}) {
		return got
	}
	less := *got
	page["value"], _ = json.Marshal(records[1:])
	less.body, _ = json.Marshal(page)
	return &less
}

func (n *network) mayDeny(ref entityevent.Ref) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last, ok := n.denied[ref.String()]; ok && time.Since(last) < 5*time.Minute {
		return false
	}
	n.denied[ref.String()] = time.Now()
	return true
}
