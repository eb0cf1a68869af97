package producer

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// Subscription says to whom the log is pushed, and how.
type Subscription struct {
	Name    string // unique in the agent
	Client  string // whose subscription it is: it sees what this client sees
	Mask    entityevent.Mask
	Profile string // the client's profile, which EntityEvent-Log names. Default "all".
	Feed    string // whose events are pushed. Default entityevent.Local.
	URL     string // the callback; a secret, for its query may hold one
	Token   string // the callback's bearer token
	Label   string // the consumer's own name of the feed (RCP-28), printable, at most 255

	EventTypes []string // resources of which events are pushed. Empty: all. Pushes of some alone carry no EntityEvent-After and -Through.
	Mode       Mode     // Default Continuous.
	Protocol   Protocol // Default RESO.
	Secret     string   // signs pushes by Standard Webhooks; see CheckSecret. "": they are not signed.
	RecordURLs string   // the service root in ResourceRecordUrl, as https://host/odata. "": events have none.
	Schema     *Schema  // of RecordURLs: which keys are quoted. Default: all.
	Self       string   // relative href of a registered one, as /subscriptions/{uuid}, for HAL and remedies; Name is its UUID

	BatchEvents int           // events in a push at most; with 1 the body is the bare object. Default 500.
	BatchBytes  int           // bytes of a push's body at most, unless one event is larger. Default 1 MB.
	Timeout     time.Duration // for the whole of one push. Default 15s.
}

// Mode says when a subscription ends.
type Mode string

// The modes of a subscription.
const (
	Continuous Mode = "continuous" // when its owner cancels it
	OnlyOnce   Mode = "only-once"  // with the first acknowledged push; until then that same push is repeated
)

// Protocol is the form of a push's body.
type Protocol string

// The protocols of a subscription.
const (
	RESO Protocol = "reso" // RESO Common Format
	HAL  Protocol = "hal"  // the same, with _links and UUID
)

// Filter is what must hold of the events that are pushed, beside what the client may see. nil: nothing.
func (s Subscription) Filter() odata.Expr {
	if len(s.EventTypes) == 0 {
		return nil
	}
	text := odata.Type{Kind: odata.String}
	in := odata.Membership{Left: odata.Field{Path: resourceField, Of: text}}
	for _, resource := range s.EventTypes {
		in.Values = append(in.Values, odata.Literal{Kind: odata.String, Text: resource})
	}
	return in
}

// endpoint is a fingerprint of where and as whom the subscription pushes.
func (s Subscription) endpoint() string {
	text := s.URL + "\x00" + s.Token
	if s.Secret != "" {
		text += "\x00" + s.Secret
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
