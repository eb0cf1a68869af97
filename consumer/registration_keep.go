package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/seal"
)

// registrar keeps one feed registered, step by step. Only one goroutine uses it.
type registrar struct {
	*Feed
	*Registration
	seal    seal.Key
	doc     entityevent.Doc
	now     registered // what the document says
	good    bool       // the token is accepted here, and has long to go
	revives revives
	told    time.Time         // when the producer last took the terms
	stands  standstill        // of the subscription
	refuses int               // how many refusals in a row
	fresh   string            // the key of a POST that was not sent yet
	ended   entityevent.LogID // the log in which what is gone was ended again
}

// subscription is what a producer tells of one.
type subscription struct {
	UUID      string
	Status    string               `json:"status"`
	Cursor    entityevent.Sequence `json:"cursor"`
	LastError string               `json:"lastError"`
	Message   string               `json:"message"`
}

func (s subscription) why() string {
	return withoutTokens(line(cmp.Or(s.Message, s.LastError, "the producer does not say why")))
}

// step does what is next, and says when to look again. What it did before a crash, or a failure, it finds in the
// document.
func (r *registrar) step(ctx context.Context) (time.Duration, error) {
	if err := r.read(ctx); err != nil {
		return 0, err
	}
	var err error
	if r.good, err = r.sweep(ctx); err != nil {
		return 0, err
	}
	if r.doc.Version > 0 && r.now.Root != r.client.root {
		return 0, r.leave(ctx)
	}
	if r.Callback == "" {
		return r.withdraw(ctx)
	}
	p, err := r.Store.Position(ctx, r.Name)
	if err != nil {
		return 0, err
	}
	r.endAgain(ctx, p)
	switch {
	case r.now.Sent != nil:
		return r.deliver(ctx)
	case r.now.Self != "":
		return r.look(ctx, p)
	}
	return r.begin(ctx, p)
}

// begin subscribes, when the feed knows where it stands. What is pushed begins there; before the feed's first event it
// begins with what is new.
func (r *registrar) begin(ctx context.Context, p entityevent.Position) (time.Duration, error) {
	if !p.Started {
		r.waiting("for the beginning of the first load")
		return startEvery, nil
	}
	if wait := time.Until(r.now.Anew); wait > 0 {
		r.waiting("one subscription after another was ended by somebody else; the next follows at " + r.now.Anew.Format(time.RFC3339))
		return wait, nil
	}
	if p.Log != "" {
		r.client.pace.named(true)
	}
	offers, err := r.offers(ctx)
	if err != nil {
		return 0, err
	}
	if offers.Subscriptions == "" {
		r.registration.say(r.Logger, RegistrationStatus{State: Unoffered, Reason: "the producer takes no subscriptions by API: ask its people for pushes; polls go on"})
		return offersKept, nil
	}
	r.fresh = uuid.NewString()
	if err := r.prepare(ctx, sending{Key: r.fresh, To: strings.TrimRight(offers.Subscriptions, "/"), From: p.Sequence, Log: p.Log}); err != nil {
		return 0, err
	}
	return r.deliver(ctx)
}

// keyLife is for how long a producer certainly knows an Idempotency-Key; it promises a day.
const keyLife = 23 * time.Hour

// segment is what a UUID has to be at least, for it becomes part of a path (RFC 3986, 3.3).
var segment = regexp.MustCompile(`^[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,254}$`)

// deliver sends what the document says, as often as it takes, and takes over the answer.
func (r *registrar) deliver(ctx context.Context) (time.Duration, error) {
	s := *r.now.Sent
	text, err := r.seal.Open(s.Token.Text, r.place("token/"+s.Token.ID))
	if err != nil || s.Key != "" && time.Since(s.Begun) > keyLife {
		// What it may have made all the same is pushed with a token that is revoked now: its producer suspends it.
		r.now.Sent = nil
		return 0, r.write(ctx)
	}
	body := map[string]any{"callbackUrl": s.Terms.Callback, "callbackToken": text, "batchSize": nil}
	if s.Terms.Batch > 0 {
		body["batchSize"] = s.Terms.Batch
	}
	method, header := http.MethodPatch, http.Header{}
	if s.Key != "" {
		method, header = http.MethodPost, http.Header{"Idempotency-Key": {s.Key}}
		body["mode"], body["protocol"] = "continuous", "reso"
		if s.Terms.Label != "" {
			body["consumerLabel"] = s.Terms.Label
		}
		if s.From > 0 {
			body["fromSequence"] = s.From
		}
	}
	made := 0
	answer, err := r.ask(context.WithValue(ctx, attempts{}, &made), method, s.To, body, header)
	if err != nil {
		switch {
		case s.Key == "" && isProper(err, http.StatusNotFound):
			return 0, r.lost(ctx, unknownEvery, "the producer knows it no more")
		case settled(err):
			if r.now.Sent = nil; s.Token.ID != r.now.Token.ID && (s.Key == "" || s.Key == r.fresh && made == 1) {
				r.now.Spare = s.Token // else a request before that one may have made a subscription, with this token
			}
			if err := r.write(ctx); err != nil {
				return 0, err
			}
			return r.refuse(err)
		case refused(err, http.StatusNotFound):
			r.links.forget()
		}
		r.fresh = ""
		r.pending(err)
		return 0, err
	}
	if s.Key != "" {
		if !segment.MatchString(answer.UUID) {
			err := fmt.Errorf("%w: a subscription without a UUID", errUnexpected)
			r.pending(err)
			return 0, err
		}
		r.now.UUID, r.now.Self, r.now.Since = answer.UUID, s.To+"/"+answer.UUID, time.Now().UTC()
	}
	if s.Token.ID != r.now.Token.ID {
		r.retire(r.now.Token)
	}
	if s.Log != r.now.Log {
		r.revives = revives{} // its numbers are others
	}
	r.now.Terms, r.now.Token, r.now.Log, r.now.Sent = s.Terms, s.Token, s.Log, nil
	if err := r.write(ctx); err != nil {
		return 0, err
	}
	r.told, r.refuses = time.Now(), 0
	return 0, nil // and look at it: that the terms were taken does not say how it is
}

// look asks how the subscription is, and mends what can be.
func (r *registrar) look(ctx context.Context, p entityevent.Position) (time.Duration, error) {
	is, err := r.ask(ctx, http.MethodGet, r.now.Self, nil, nil)
	switch {
	case isProper(err, http.StatusNotFound), isProper(err, http.StatusGone):
		return 0, r.lost(ctx, unknownEvery, "the producer knows it no more")
	case settled(err):
		return r.refuse(err)
	case err != nil:
		r.pending(err)
		return 0, err
	case is.UUID != r.now.UUID:
		return 0, fmt.Errorf("%w: another subscription than was asked for", errUnexpected)
	case is.Status == "cancelled":
		return 0, r.lost(ctx, anewEvery, "it was cancelled: "+is.why())
	}
	if now := r.admission(); now != r.now.Access { // with it the producer answered
		r.now.Access = now
		if err := r.write(ctx); err != nil {
			return 0, err
		}
	}
	wanted := r.terms()
	switch {
	case r.now.Terms.Label != wanted.Label: // which cannot be changed
		return 0, r.cancel(ctx)
	case r.now.Terms != wanted || !r.good || p.Log != r.now.Log && p.Log != "":
		return r.tell(ctx, p)
	case is.Status == "suspended":
		return r.resume(ctx, p, is)
	case r.toldJustNow():
	case r.standsStill(p, is):
		return r.tell(ctx, p)
	}
	if r.refuses = 0; r.stands.looks > 0 && r.stands.at == is.Cursor && is.LastError != "" {
		r.is(Failing, is.why())
	} else {
		r.is(Registered, "")
	}
	return lookEvery - time.Minute + rand.N(2*time.Minute), nil
}

// ask sends a request and reads the subscription that it is about.
func (r *registrar) ask(ctx context.Context, method, url string, body any, header http.Header) (s subscription, err error) {
	a, err := r.client.as(forPoll).send(ctx, method, url, body, header)
	if no := (*refusal)(nil); errors.As(err, &no) {
		no.Detail = withoutTokens(no.Detail)
	}
	if err != nil {
		return s, err
	}
	if a.Status == http.StatusNoContent {
		a.Close()
		return s, nil
	}
	return s, a.decode(&s)
}

// settled says whether the producer itself refused something for good, so that asking again is of no use until
// somebody changed something.
func settled(err error) bool {
	var no *refusal
	return errors.As(err, &no) && no.Proper && no.Status >= 400 && no.Status < 500 &&
		no.Status != http.StatusUnauthorized && no.Status != http.StatusNotFound && no.Status != http.StatusRequestTimeout && !halts(no.Status)
}

// withoutTokens drops what somebody else wrote if there is a token in it, or the beginning of one.
func withoutTokens(text string) string {
	if strings.Contains(text, "eyJ") { // as every JWT begins
		return "what it says holds a token"
	}
	return text
}

// lost forgets the subscription, which somebody else ended. The next follows at once, and another after that not before
// every is over.
func (r *registrar) lost(ctx context.Context, every time.Duration, why string) error {
	r.Logger.Warn("the subscription at the producer is gone", "subscription", r.now.UUID, "reason", why)
	anew := time.Now().UTC()
	if soonest := r.now.Anew.Add(every); anew.Before(soonest) {
		anew = soonest
	}
	r.forget()
	r.now.Anew, r.ended = anew, "" // what it was restored to may have others
	return r.write(ctx)
}

func (r *registrar) forget() {
	r.now = registered{Root: r.now.Root, Access: r.now.Access, Gone: append(r.now.Gone, r.now.Self)}
	r.now.Gone = r.now.Gone[max(0, len(r.now.Gone)-goneKept):]
}

// How the registration is, for Status.

func (r *registrar) is(state, reason string) {
	r.registration.say(r.Logger, RegistrationStatus{UUID: r.now.UUID, Since: r.now.Since, State: state, Reason: reason, Looked: time.Now(), Expires: r.now.Token.Expires})
}

func (r *registrar) waiting(reason string) {
	r.registration.say(r.Logger, RegistrationStatus{State: Registering, Reason: reason})
}

// pending notes that it is not known how the registration is.
func (r *registrar) pending(err error) {
	state := Registering
	if r.now.Self != "" {
		state = Registered
	}
	r.registration.say(r.Logger, RegistrationStatus{UUID: r.now.UUID, Since: r.now.Since, State: state, Reason: err.Error(), Expires: r.now.Token.Expires})
}

// refuse notes that the producer refuses. What it says of numbers may be otherwise after the next poll.
func (r *registrar) refuse(err error) (time.Duration, error) {
	r.registration.say(r.Logger, RegistrationStatus{UUID: r.now.UUID, Since: r.now.Since, State: Refused, Reason: err.Error(), Expires: r.now.Token.Expires})
	if refused(err, http.StatusUnprocessableEntity) {
		return lookEvery, nil
	}
	r.refuses++
	return refusedBackoff.Delay(r.refuses), nil
}
