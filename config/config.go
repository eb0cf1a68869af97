// Package config reads an agent's configuration: one YAML file, strictly.
//
// It promises that an agent never runs with a key that it did not understand, a value that it did not
// mean or an environment variable that is not set; that all problems of a file are told at once, each
// with its place and what to do; and that no secret is printed, by an error or with the configuration.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Config is one agent's configuration.
type Config struct {
	Name      string `yaml:"name"`       // for people. Default "resosync".
	Data      string `yaml:"data"`       // the data folder, relative to the file's; absolute after Load. Default ./data.
	Listen    string `yaml:"listen"`     // host:port. Default 127.0.0.1:8080.
	PublicURL string `yaml:"public_url"` // how others reach the agent, without a trailing slash. Default "": the scheme and address listened on.
	TLS       *TLS   `yaml:"tls"`        // nil: plain http
	// TrustedProxies are the networks of the proxies that are believed when they say for whom they ask.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	CORSOrigins    []string       `yaml:"cors_origins"` // pages that may ask: origins as browsers write them, or "*"
	AccessLog      bool           `yaml:"access_log"`   // a line for each request
	Compact        string         `yaml:"compact"`      // when the log is compacted: cron, or never. Default 30 4 * * *.
	// Forget is after how long the last event of a record that is gone may be dropped. Default 0: never.
	Forget   Age       `yaml:"forget"`
	Producer *Producer `yaml:"producer"` // nil: not a producer
	Consumer *Consumer `yaml:"consumer"` // nil: not a consumer

	from *reader // what it was read by
}

// TLS is the certificate with which the agent serves https. Both are files, as Data.
type TLS struct {
	Cert string `yaml:"cert"` // PEM, with the intermediate certificates
	Key  string `yaml:"key"`  // PEM
}

// Producer says what is served and pushed, and to whom.
type Producer struct {
	Feed           string             `yaml:"feed"`            // what /odata serves. Default: the agent decides.
	Metadata       string             `yaml:"metadata"`        // an EDMX file, as Data. Default "": inferred from the records.
	Keys           map[string]string  `yaml:"keys"`            // the key field of a resource, where it is not the one that is inferred
	Profiles       map[string]Profile `yaml:"profiles"`        // what clients may see, by name
	Clients        []Client           `yaml:"clients"`         // who may ask
	Subscriptions  []Subscription     `yaml:"subscriptions"`   // to whom is pushed
	AllowCallbacks []netip.Prefix     `yaml:"allow_callbacks"` // networks that pushes may reach although they are not public
	Sessions       Sessions           `yaml:"sessions"`
}

// Sessions says who may listen to session events beside clients.
type Sessions struct {
	Anonymous string `yaml:"anonymous"` // the profile of who shows no token. Default "": such are refused.
}

// Client is somebody who holds tokens of this producer.
type Client struct {
	Name    string       `yaml:"name"`
	Scopes  []string     `yaml:"scopes"`  // read, write, subscribe, admin. Default [read].
	Profile string       `yaml:"profile"` // Default "": it sees everything.
	Limits  ClientLimits `yaml:"limits"`
}

// ClientLimits are those of one client of the producer.
type ClientLimits struct {
	Rate Rate `yaml:"rate"` // requests at a time; 0: no limit
}

// Subscription is one fixed push endpoint (RCP-28).
type Subscription struct {
	Name    string        `yaml:"name"`
	Client  string        `yaml:"client"`  // the name of a client: the subscription sees what it sees
	URL     Callback      `yaml:"url"`     // where the events are POSTed
	Token   Secret        `yaml:"token"`   // what the consumer issued for pushes
	Label   string        `yaml:"label"`   // the consumer's own name for the feed
	Batch   int           `yaml:"batch"`   // events in a push at most; 0: the pusher's default
	Timeout time.Duration `yaml:"timeout"` // of one push; 0: the pusher's default
	// EventTypes are the resources whose events are pushed. Nobody else may name them, or register for them; they are
	// pushed to those without EventTypes, who have all.
	EventTypes []string `yaml:"event_types"`
	Protocol   string   `yaml:"protocol"`    // reso or hal. Default reso.
	Secret     Secret   `yaml:"secret"`      // signs pushes (Standard Webhooks). Default "": they are not signed.
	RecordURLs bool     `yaml:"record_urls"` // events name the URL of their record
}

// Consumer says what is copied from other producers.
type Consumer struct {
	Feeds []Feed `yaml:"feeds"`
}

// Feed is one producer's data. 0 and "" of what is optional stand for the consumer's defaults.
type Feed struct {
	Name  string `yaml:"name"` // unique, as it stands in paths; not "local"
	URL   string `yaml:"url"`  // the OData service root, without a trailing slash
	Token Secret `yaml:"token"`
	// ClientID, ClientSecret and TokenURL take the place of Token: OAuth2 client credentials.
	ClientID     string   `yaml:"client_id"`
	ClientSecret Secret   `yaml:"client_secret"`
	TokenURL     string   `yaml:"token_url"`
	Strategy     string   `yaml:"strategy"` // entityevent. Default entityevent.
	Resources    []string `yaml:"resources"`
	Push         Push     `yaml:"push"`
	Poll         string   `yaml:"poll"` // cron with five fields, or @every 60s
	LongPoll     bool     `yaml:"long_poll"`
	// Reconcile is when the copy is compared with the producer: as Poll, or never.
	Reconcile string `yaml:"reconcile"`
	// StaleAfter is how long the feed may stand still before the agent is not ready; 0: the agent's default.
	StaleAfter time.Duration `yaml:"stale_after"`
	Limits     Limits        `yaml:"limits"`
	Page       int           `yaml:"page"`      // records of a page
	KeyBatch   int           `yaml:"key_batch"` // keys of one request
}

// Push says how a feed's pushes look.
type Push struct {
	Label string `yaml:"label"` // what the producer must send as EntityEventSource, if it sends it
	// Register has the agent subscribe itself at the producer, if that is a resosync too.
	Register bool `yaml:"register"`
}

// Never is the schedule of what is not done by itself.
const Never = "never"

// Limits are those of a feed's producer: how many requests it may get.
type Limits struct {
	Rate   Rate `yaml:"rate"`   // at a time
	Hourly int  `yaml:"hourly"` // in an hour of UTC
	Daily  int  `yaml:"daily"`  // in a day of UTC
}

// Load reads and checks the file at path. Its error, if the file could be read, is an *Error with
// every problem.
func Load(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no configuration at %s: make one with `resosync init`, or name it with -c FILE", path)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(path, text, os.LookupEnv)
}

// Parse reads and checks a configuration's text as if it stood at path. lookup returns the values of
// environment variables. Its error is an *Error.
func Parse(path string, text []byte, lookup func(name string) (value string, set bool)) (*Config, error) {
	r := newReader(path, text, lookup)
	c := &Config{from: r}
	if r.read(c) {
		r.check(c)
	}
	if len(r.problems) > 0 {
		return nil, r.err()
	}
	folder, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c.complete(folder)
	return c, nil
}

// complete fills in the defaults and makes paths absolute.
func (c *Config) complete(folder string) {
	setDefault(&c.Name, "resosync")
	setDefault(&c.Data, "./data")
	setDefault(&c.Listen, "127.0.0.1:8080")
	setDefault(&c.Compact, "30 4 * * *")
	c.Data = within(folder, c.Data)
	if c.TLS != nil {
		c.TLS.Cert, c.TLS.Key = within(folder, c.TLS.Cert), within(folder, c.TLS.Key)
	}
	c.PublicURL = withoutSlash(c.PublicURL)
	if c.Producer != nil {
		if c.Producer.Metadata != "" {
			c.Producer.Metadata = within(folder, c.Producer.Metadata)
		}
		for i := range c.Producer.Clients {
			if client := &c.Producer.Clients[i]; len(client.Scopes) == 0 {
				client.Scopes = []string{"read"}
			}
		}
	}
	if c.Consumer != nil {
		for i := range c.Consumer.Feeds {
			f := &c.Consumer.Feeds[i]
			setDefault(&f.Strategy, "entityevent")
			f.URL = withoutSlash(f.URL)
		}
	}
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func within(folder, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(folder, path)
}

func withoutSlash(u string) string {
	for len(u) > 0 && u[len(u)-1] == '/' {
		u = u[:len(u)-1]
	}
	return u
}
