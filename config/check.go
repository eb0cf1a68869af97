package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/robfig/cron/v3"

	"github.com/resosync/resosync/entityevent/metadata"
)

// check reports what is wrong with the values of c.
func (r *reader) check(c *Config) {
	if c.Producer == nil && c.Consumer == nil && len(r.problems) == 0 {
		r.report("", "it is neither a producer nor a consumer: add a section producer or consumer (resosync init shows how)")
	}
	r.label("name", c.Name)
	if c.Listen != "" {
		r.listen("listen", c.Listen)
	}
	if c.PublicURL != "" {
		r.root("public_url", c.PublicURL)
	}
	r.server(c)
	if c.Producer != nil {
		r.producer(c)
	}
	if c.Consumer != nil {
		r.consumer(c)
	}
}

func (r *reader) producer(c *Config) {
	p := c.Producer
	if p.Feed != "" && p.Feed != "local" {
		if c.Consumer == nil || !slices.ContainsFunc(c.Consumer.Feeds, func(f Feed) bool { return f.Name == p.Feed }) {
			r.report("producer.feed", "there is no feed %q: name one of consumer.feeds, or local", p.Feed)
		}
	}
	for _, resource := range slices.Sorted(maps.Keys(p.Keys)) {
		path := "producer.keys." + resource
		r.resource(path, resource)
		if !metadata.Identifier(p.Keys[resource]) {
			r.report(path, "%q is not the name of a field", p.Keys[resource])
		}
	}
	r.profiles(p)
	clients := map[string]bool{}
	for i, client := range p.Clients {
		path := fmt.Sprintf("producer.clients[%d]", i)
		r.unique(path, client.Name, clients)
		r.client(path, client, p.Profiles)
	}
	r.subscriptions(p, clients)
	if _, known := p.Profiles[p.Sessions.Anonymous]; p.Sessions.Anonymous != "" && !known {
		r.report("producer.sessions.anonymous", "there is no profile %q: add it to producer.profiles", p.Sessions.Anonymous)
	}
}

func (r *reader) consumer(whole *Config) {
	c := whole.Consumer
	if len(c.Feeds) == 0 {
		r.report("consumer.feeds", "missing: a consumer needs at least one feed")
	}
	feeds := map[string]bool{}
	for i, f := range c.Feeds {
		path := fmt.Sprintf("consumer.feeds[%d]", i)
		r.unique(path, f.Name, feeds)
		if f.Name == "local" {
			r.report(path+".name", "local is the name of this agent's own records: choose another")
		}
		if r.url(path+".url", f.URL, "https://sync.acme.example/odata") && strings.Contains(f.URL, "?") {
			r.report(path+".url", "want the OData service root: without a query")
		}
		r.credentials(path, f)
		switch f.Strategy {
		case "", "entityevent":
		case "timestamp":
			r.report(path+".strategy", "timestamp is not supported by this version: the producer must offer EntityEvent")
		default:
			r.report(path+".strategy", "unknown strategy %q: want entityevent", f.Strategy)
		}
		if len(f.Resources) == 0 {
			r.report(path+".resources", "missing: name the resources to copy, as [Property, Member, Office, Media]")
		}
		r.resources(path+".resources", f.Resources)
		r.label(path+".push.label", f.Push.Label)
		if f.Push.Register && whole.PublicURL == "" {
			r.report(path+".push.register", "the producer must be told where to push: add public_url, the URL by which it reaches this agent")
		}
		if f.Poll != "" {
			r.cron(path+".poll", f.Poll)
		}
		if f.Reconcile != "" && f.Reconcile != Never {
			r.cron(path+".reconcile", f.Reconcile)
		}
		if f.StaleAfter < 0 || f.StaleAfter > 0 && f.StaleAfter < time.Second || f.StaleAfter > 30*24*time.Hour {
			r.report(path+".stale_after", "want a duration from 1s to 720h")
		}
		r.limits(path+".limits", f.Limits)
		r.within(path+".page", f.Page, 100_000)
		r.within(path+".key_batch", f.KeyBatch, 1000)
	}
}

// client checks what a client may do and see.
func (r *reader) client(path string, c Client, profiles map[string]Profile) {
	for j, scope := range c.Scopes {
		at := fmt.Sprintf("%s.scopes[%d]", path, j)
		switch scope {
		case "read", "subscribe":
		case "write", "admin":
			if c.Profile != "" {
				r.report(at, "a client with a profile sees a part, and %s is for all: take away the scope or the profile", scope)
			}
		default:
			r.report(at, "unknown scope %q: want read, write, subscribe or admin", scope)
		}
	}
	if _, known := profiles[c.Profile]; c.Profile != "" && !known {
		r.report(path+".profile", "there is no profile %q: add it to producer.profiles", c.Profile)
	}
}

// credentials checks how a feed says who it is: by a token, or by what it gets one with.
func (r *reader) credentials(path string, f Feed) {
	r.token(path+".token", f.Token)
	r.token(path+".client_secret", f.ClientSecret)
	if f.ClientID == "" && f.ClientSecret == "" && f.TokenURL == "" {
		return
	}
	if f.Token != "" {
		r.report(path+".token", "leave it out, or client_id, client_secret and token_url: they take its place")
	}
	if f.ClientID == "" {
		r.report(path+".client_id", "missing: it goes with client_secret and token_url")
	} else {
		r.label(path+".client_id", f.ClientID)
	}
	if f.ClientSecret == "" {
		r.report(path+".client_secret", "missing: it goes with client_id and token_url")
	}
	r.url(path+".token_url", f.TokenURL, "https://sync.acme.example/oauth/token")
}

func (r *reader) token(path string, text Secret) {
	if strings.ContainsFunc(string(text), func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		r.report(path, "a token or secret has no spaces, line ends or letters beyond ASCII")
	}
}

func (r *reader) limits(path string, l Limits) {
	r.within(path+".hourly", l.Hourly, 1e9)
	r.within(path+".daily", l.Daily, 1e9)
	if l.Hourly > 0 && l.Daily > 0 && l.Daily < l.Hourly {
		r.report(path+".daily", "it is below hourly: a day has as many requests as its hours")
	}
}

func (r *reader) resources(path string, resources []string) {
	seen := map[string]bool{}
	for i, name := range resources {
		at := fmt.Sprintf("%s[%d]", path, i)
		if r.resource(at, name) && seen[name] {
			r.report(at, "%s stands there twice", name)
		}
		seen[name] = true
	}
}

func (r *reader) resource(path, name string) (ok bool) {
	switch {
	case !metadata.Identifier(name):
		r.report(path, "%q is not the name of a resource", name)
	case name == "EntityEvent":
		r.report(path, "EntityEvent is the log itself, and no resource with records: leave it out")
	default:
		return true
	}
	return false
}

// These names stand in paths, in documents' ids and in logs.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

const badName = "%q is no name here: up to 64 of A-Z a-z 0-9 . _ -, a letter or digit first"

// unique checks the name of the entry at path, which no other in names may have.
func (r *reader) unique(path, name string, names map[string]bool) {
	switch {
	case name == "":
		r.report(path+".name", "missing: give it a name")
	case !plainName.MatchString(name):
		r.report(path+".name", badName, name)
	case names[name]:
		r.report(path+".name", "the name %q is taken by another entry of this list: choose another", name)
	}
	names[name] = true
}

// label checks a text that travels in a header (RCP-28, String(255)).
func (r *reader) label(path, text string) {
	switch {
	case utf8.RuneCountInString(text) > 255:
		r.report(path, "it is longer than 255 characters")
	case strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }):
		r.report(path, "it has characters that do not print")
	case strings.TrimSpace(text) != text:
		r.report(path, "it begins or ends with a space, which would be lost on the way")
	}
}

func (r *reader) url(path, text, example string) (ok bool) {
	u, err := url.Parse(text)
	switch {
	case text == "":
		r.report(path, "missing: want a URL, as %s", example)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !validPort(u.Port()):
		r.report(path, "want an absolute URL, as %s", example)
	case u.User != nil:
		r.report(path, "leave user and password out of the URL: use token")
	case u.Fragment != "":
		r.report(path, "leave out what follows #: it is never sent")
	default:
		return true
	}
	return false
}

// root checks what every link begins with.
func (r *reader) root(path, text string) {
	switch {
	case !r.url(path, text, "https://sync.acme.example"):
	case strings.Contains(text, "?"):
		r.report(path, "leave out what follows ?: paths are appended to it")
	case strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		r.report(path, "want it percent-encoded, as https://sync.acme.example/a%%20b")
	}
}

func (r *reader) listen(path, address string) {
	host, port, err := net.SplitHostPort(address)
	_, ipErr := netip.ParseAddr(host)
	if err != nil || port == "" || !validPort(port) || host != "" && ipErr != nil && !hostName.MatchString(host) {
		r.report(path, "want host:port, as 127.0.0.1:8080 or :8080")
	}
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && (n > 0 || port == "0")
}

// cron checks when something is done. Its parser panics at a zone without a schedule.
func (r *reader) cron(path, spec string) {
	every, isEvery := strings.CutPrefix(spec, "@every ")
	if d, err := time.ParseDuration(every); isEvery && (err != nil || d < time.Second) {
		r.report(path, "want @every with a duration of a second or more, as @every 60s")
		return
	}
	if strings.Contains(spec, "TZ=") {
		r.report(path, `leave out the time zone: the schedule is in the zone of this machine (TZ in its environment)`)
		return
	}
	schedule, err := cron.ParseStandard(spec)
	switch {
	case err != nil:
		r.report(path, `want cron with five fields, as "*/5 * * * *", or @every 60s`)
	case schedule.Next(time.Unix(0, 0)).IsZero():
		r.report(path, "this day never comes: want one that is in the calendar")
	}
}

// within checks a number that is 0 when it is left out.
func (r *reader) within(path string, n, most int) {
	if n < 0 || n > most {
		r.report(path, "want a number from 1 to %d", most)
	}
}
