package config

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// subscriptions checks the fixed endpoints of p, whose clients have these names.
func (r *reader) subscriptions(p *Producer, clients map[string]bool) {
	names, owners := map[string]bool{}, map[string]string{}
	for i, s := range p.Subscriptions {
		path := fmt.Sprintf("producer.subscriptions[%d]", i)
		r.unique(path, s.Name, names)
		if s.Name == "registered" {
			r.report(path+".name", "registered is what figures call all those that clients register: choose another")
		}
		switch {
		case s.Client == "":
			r.report(path+".client", "missing: name the client whose subscription it is")
		case !clients[s.Client]:
			r.report(path+".client", "there is no client %q: add it to producer.clients", s.Client)
		}
		if r.url(path+".url", string(s.URL), "https://b.example/webhooks/acme") && strings.HasPrefix(strings.ToLower(string(s.URL)), "http:") && len(p.AllowCallbacks) == 0 {
			r.report(path+".url", "plain http is only for networks in producer.allow_callbacks: use https, or add the network")
		}
		if s.Token == "" {
			r.report(path+".token", "missing: ask the consumer for one (there: resosync token issue --feed NAME)")
		} else {
			r.token(path+".token", s.Token)
		}
		r.label(path+".label", s.Label)
		r.within(path+".batch", s.Batch, 10_000)
		if s.Timeout < 0 || s.Timeout > 10*time.Minute {
			r.report(path+".timeout", "want a duration up to 10m")
		}
		if s.Protocol != "" && s.Protocol != "reso" && s.Protocol != "hal" {
			r.report(path+".protocol", "unknown protocol %q: want reso or hal", s.Protocol)
		}
		r.secret(path+".secret", s.Secret)
		r.resources(path+".event_types", s.EventTypes)
		for j, name := range s.EventTypes {
			if owner := owners[name]; owner != "" && owner != path {
				r.report(fmt.Sprintf("%s.event_types[%d]", path, j), "%s is pushed to %s alone: an event type has one such endpoint; take it away from one of the two", name, owner)
			}
			owners[name] = path
		}
	}
}

// secret checks one that signs: 24 to 64 bytes in base64, which may begin with whsec_ (Standard Webhooks).
func (r *reader) secret(path string, s Secret) {
	if s == "" {
		return
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(s), "whsec_"))
	if err != nil || len(raw) < 24 || len(raw) > 64 {
		r.report(path, "want whsec_ and the base64 of 24 to 64 random bytes, as: echo whsec_$(openssl rand -base64 32)")
	}
}
