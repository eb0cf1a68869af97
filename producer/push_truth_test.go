package producer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// verdict is what the producer does after one push. Whatever it is, the position moves past what was
// acknowledged and nothing else, and nothing secret is stored.
type verdict struct {
	does     string        // advance, wait, halve or suspend
	from, to time.Duration // the next push comes after so long
	counts   bool          // toward the 24 hours of failure after which the subscription is suspended
	says     string        // is in the stored error, and in the reason of a suspension
}

var taken = verdict{does: "advance"}

// fails: again by our back-off, and it counts as a failure.
func fails(says string) verdict {
	return verdict{"wait", time.Second / 2, time.Second, true, says}
}

// halts: again when the subscriber wants, which is no failure.
func halts(wait time.Duration, says string) verdict { return verdict{"wait", wait, wait, false, says} }

// halted: the subscriber wants us to wait and does not say how long: our back-off, but no failure.
func halted(says string) verdict {
	return verdict{"wait", time.Second / 2, time.Second, false, says}
}

// refused: again after a minute. TestPushRefusedSuspends goes on from there.
func refused(says string) verdict { return verdict{"wait", time.Minute, time.Minute, true, says} }

func halves(says string) verdict   { return verdict{"halve", 0, 0, false, says} }
func suspends(says string) verdict { return verdict{"suspend", 0, 0, false, says} }

// row is one line of the truth table.
type row struct {
	answer string
	peer   func(*end)
	then   verdict

	dial  func(context.Context, string) error // fails instead
	tls   bool
	roots *x509.CertPool
	url   string // of a real server, reached through real sockets
}

const (
	hour    = time.Hour
	endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	mega    = 100 << 20
)

// TestPushTruthTable is the delivery policy: what a subscriber may answer, or suffer, and what the producer then does.
func TestPushTruthTable(t *testing.T) {
	elsewhere := "Location: https://elsewhere.example/hook"
	table := []row{
		// 2xx is an acknowledgement. The status line is the answer: what follows it changes nothing.
		{answer: "200", peer: says("200 OK"), then: taken},
		{answer: "201", peer: says("201 Created", elsewhere), then: taken},
		{answer: "202", peer: says("202 Accepted", "Retry-After: 600"), then: taken},
		{answer: "203", peer: says("203 Non-Authoritative Information"), then: taken},
		{answer: "204", peer: says("204 No Content"), then: taken},
		{answer: "205", peer: says("205 Reset Content"), then: taken},
		{answer: "206", peer: says("206 Partial Content"), then: taken},
		{answer: "207", peer: says("207 Multi-Status"), then: taken},
		{answer: "208", peer: says("208 Already Reported"), then: taken},
		{answer: "226", peer: says("226 IM Used"), then: taken},
		{answer: "299", peer: says("299 Whatever"), then: taken},
		{answer: "200 without a reason", peer: answers("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), then: taken},
		{answer: "200 by HTTP/1.0", peer: cut("HTTP/1.0 200 OK\r\n\r\nok"), then: taken},
		{answer: "200, garbage", peer: answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x00\xff{]<"), then: taken},
		{answer: "200, says it failed", peer: answers("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"status\":\"500\"}"), then: taken},
		{answer: "200, 100 MB", peer: large("200 OK"), then: taken},
		{answer: "200, a body of one byte a second", peer: drips("HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n", "x", time.Second), then: taken},
		{answer: "200, a body without end", peer: drips(endless, "1\r\nx\r\n", time.Millisecond), then: taken},
		{answer: "200, closed after the headers", peer: cut("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"), then: taken},
		{answer: "200, silent after the headers", peer: hangs("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"), then: taken},
		{answer: "200, more than its Content-Length", peer: cut("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nxyz"), then: taken},
		{answer: "200, broken chunks", peer: cut(endless + "zz\r\n"), then: taken},
		{answer: "200, broken gzip", peer: cut("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz"), then: taken},

		// 1xx is no answer yet.
		{answer: "100, then 200", peer: answers("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), then: taken},
		{answer: "103, then 200", peer: answers("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), then: taken},
		{answer: "102 alone", peer: hangs("HTTP/1.1 102 Processing\r\n\r\n"), then: fails("no answer within 15s")},
		{answer: "102 for ever", peer: drips("", "HTTP/1.1 102 Processing\r\n\r\n", 0), then: fails("headers exceeded")},
		{answer: "101", peer: hangs("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), then: fails("101 Switching Protocols")},
		{answer: "099", peer: cut("HTTP/1.1 099 Odd\r\n\r\n"), then: fails("99")},

		// No redirect is followed, with or without a place to go to.
		{answer: "300", peer: says("300 Multiple Choices"), then: fails("redirects are not followed")},
		{answer: "300 to elsewhere", peer: says("300 Multiple Choices", elsewhere), then: fails("300 Multiple Choices")},
		{answer: "301", peer: says("301 Moved Permanently"), then: fails("redirects are not followed")},
		{answer: "301 to elsewhere", peer: says("301 Moved Permanently", elsewhere), then: fails("correct the callback's URL")},
		{answer: "302", peer: says("302 Found"), then: fails("302 Found")},
		{answer: "302 to elsewhere", peer: says("302 Found", elsewhere, "Retry-After: 600"), then: fails("302 Found")},
		{answer: "302 to itself", peer: says("302 Found", "Location: /hook"), then: fails("302 Found")},
		{answer: "303", peer: says("303 See Other"), then: fails("303 See Other")},
		{answer: "303 to elsewhere", peer: says("303 See Other", elsewhere), then: fails("303 See Other")},
		{answer: "304", peer: says("304 Not Modified"), then: fails("304 Not Modified")},
		{answer: "304 to elsewhere", peer: says("304 Not Modified", elsewhere), then: fails("304 Not Modified")},
		{answer: "305", peer: says("305 Use Proxy"), then: fails("305 Use Proxy")},
		{answer: "305 to elsewhere", peer: says("305 Use Proxy", elsewhere), then: fails("305 Use Proxy")},
		{answer: "306", peer: says("306 Switch Proxy"), then: fails("306")},
		{answer: "306 to elsewhere", peer: says("306 Switch Proxy", elsewhere), then: fails("306")},
		{answer: "307", peer: says("307 Temporary Redirect"), then: fails("307 Temporary Redirect")},
		{answer: "307 to elsewhere", peer: says("307 Temporary Redirect", elsewhere), then: fails("307 Temporary Redirect")},
		{answer: "308", peer: says("308 Permanent Redirect"), then: fails("308 Permanent Redirect")},
		{answer: "308 to elsewhere", peer: says("308 Permanent Redirect", elsewhere), then: fails("308 Permanent Redirect")},

		// The token is refused: twice more, a minute apart.
		{answer: "401", peer: says("401 Unauthorized"), then: refused("401 Unauthorized")},
		{answer: "401 with a problem", peer: problem("401 Unauthorized", `{"title":"token expired"}`), then: refused("401 Unauthorized: token expired")},
		{answer: "401 with Retry-After", peer: says("401 Unauthorized", "Retry-After: 5"), then: refused("401 Unauthorized")},
		{answer: "403", peer: says("403 Forbidden"), then: refused("403 Forbidden")},
		{answer: "403 with a problem", peer: problem("403 Forbidden", `{"title":"no","detail":"wrong label"}`), then: refused("403 Forbidden: no: wrong label")},

		// Gone for good, and too large.
		{answer: "410", peer: says("410 Gone"), then: suspends("gone for good: 410 Gone")},
		{answer: "410 with a problem", peer: problem("410 Gone", `{"detail":"this feed has ended"}`), then: suspends("this feed has ended")},
		{answer: "413", peer: once("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"), then: halves("413 Request Entity Too Large")},
		{answer: "413 with Retry-After", peer: once("HTTP/1.1 413 Content Too Large\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n"), then: halves("413 Request Entity Too Large")},

		// Everything else is a failure. Retry-After counts only with 429 and 503.
		{answer: "400", peer: says("400 Bad Request"), then: fails("400 Bad Request")},
		{answer: "400 with an OData error", peer: problem("400 Bad Request", `{"error":{"message":"no value"}}`), then: fails("400 Bad Request: no value")},
		{answer: "402", peer: says("402 Payment Required"), then: fails("402 Payment Required")},
		{answer: "404", peer: says("404 Not Found"), then: fails("404 Not Found")},
		{answer: "405", peer: says("405 Method Not Allowed"), then: fails("405 Method Not Allowed")},
		{answer: "406", peer: says("406 Not Acceptable"), then: fails("406 Not Acceptable")},
		{answer: "407", peer: says("407 Proxy Authentication Required"), then: fails("407")},
		{answer: "408", peer: says("408 Request Timeout", "Retry-After: 600"), then: fails("408 Request Timeout")},
		{answer: "409", peer: says("409 Conflict"), then: fails("409 Conflict")},
		{answer: "411", peer: says("411 Length Required"), then: fails("411 Length Required")},
		{answer: "412", peer: says("412 Precondition Failed"), then: fails("412")},
		{answer: "414", peer: says("414 URI Too Long"), then: fails("414")},
		{answer: "415", peer: says("415 Unsupported Media Type"), then: fails("415 Unsupported Media Type")},
		{answer: "421", peer: says("421 Misdirected Request"), then: fails("421 Misdirected Request")},
		{answer: "422", peer: says("422 Unprocessable Content"), then: fails("422")},
		{answer: "425", peer: says("425 Too Early", "Retry-After: 600"), then: fails("425 Too Early")},
		{answer: "426", peer: says("426 Upgrade Required"), then: fails("426 Upgrade Required")},
		{answer: "428", peer: says("428 Precondition Required"), then: fails("428 Precondition Required")},
		{answer: "431", peer: says("431 Request Header Fields Too Large"), then: fails("431")},
		{answer: "451", peer: says("451 Unavailable For Legal Reasons"), then: fails("451 Unavailable For Legal Reasons")},
		{answer: "499", peer: says("499 Client Closed Request"), then: fails("499")},
		{answer: "500", peer: says("500 Internal Server Error"), then: fails("500 Internal Server Error")},
		{answer: "500 with Retry-After", peer: says("500 Internal Server Error", "Retry-After: 600"), then: fails("500 Internal Server Error")},
		{answer: "501", peer: says("501 Not Implemented"), then: fails("501 Not Implemented")},
		{answer: "502", peer: says("502 Bad Gateway"), then: fails("502 Bad Gateway")},
		{answer: "504", peer: says("504 Gateway Timeout", "Retry-After: 600"), then: fails("504 Gateway Timeout")},
		{answer: "505", peer: says("505 HTTP Version Not Supported"), then: fails("505")},
		{answer: "507", peer: says("507 Insufficient Storage"), then: fails("507 Insufficient Storage")},
		{answer: "511", peer: says("511 Network Authentication Required"), then: fails("511")},
		{answer: "599", peer: says("599 Odd"), then: fails("599")},
		{answer: "600", peer: says("600 Odd"), then: fails("600")},
		{answer: "999", peer: says("999 Denied"), then: fails("999")},

		// The body of a failure is read in part, and within the time of one push.
		{answer: "500, 100 MB", peer: large("500 Internal Server Error"), then: fails("500 Internal Server Error")},
		{answer: "500, a body of one byte a second", peer: drips("HTTP/1.1 500 Odd\r\nContent-Length: 600\r\n\r\n", "x", time.Second), then: fails("500 Internal Server Error")},
		{answer: "500, silent in the middle of the body", peer: hangs("HTTP/1.1 500 Odd\r\nContent-Length: 600\r\n\r\n{"), then: fails("500 Internal Server Error")},
		{answer: "500, cut in the middle of the body", peer: cut("HTTP/1.1 500 Odd\r\nContent-Length: 600\r\n\r\n{"), then: fails("500 Internal Server Error")},
		{answer: "500 that repeats the token", peer: echoes("HTTP/1.1 500 Odd\r\nConnection: close\r\n\r\n{\"title\":%q}"), then: fails("[redacted]")},
		{answer: "410 that repeats the token", peer: echoes("HTTP/1.1 410 Gone\r\nConnection: close\r\n\r\n{\"detail\":%q}"), then: suspends("[redacted]")},

		// There is no answer.
		{answer: "refused", dial: refuses(syscall.ECONNREFUSED), then: fails("connection refused")},
		{answer: "no route", dial: refuses(syscall.EHOSTUNREACH), then: fails("no route to host")},
		{answer: "unknown name", dial: refuses(&net.DNSError{Err: "no such host", Name: "b.example", IsNotFound: true}), then: fails("no such host")},
		{answer: "names cannot be resolved", dial: refuses(&net.DNSError{Err: "read udp 127.0.0.1:59799->127.0.0.53:53: i/o timeout", Server: "127.0.0.53:53", Name: "b.example", IsTemporary: true}), then: fails("the name of its host cannot be resolved")},
		{answer: "never connected", dial: func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }, then: fails("no answer within 15s")},
		{answer: "closed before the request", peer: func(*end) {}, then: fails("")}, // the words depend on who is first
		{answer: "reset while connecting", dial: refuses(syscall.ECONNRESET), then: fails("connection reset by peer")},
		{answer: "closed during the request", peer: func(e *end) { _, _ = e.in.ReadByte() }, then: fails("")},
		{answer: "closed after the request", peer: cut(""), then: fails("EOF")},
		{answer: "closed in the status line", peer: cut("HTTP/1.1 20"), then: fails("malformed HTTP status code")},
		{answer: "closed after the status", peer: cut("HTTP/1.1 200"), then: fails("EOF")},
		{answer: "closed in the headers", peer: cut("HTTP/1.1 200 OK\r\nContent-Le"), then: fails("Content-Le")},
		{answer: "the request is never read", peer: func(e *end) { <-e.left }, then: fails("no answer within 15s")},
		{answer: "silent", peer: hangs(""), then: fails("no answer within 15s")},
		{answer: "silent in the headers", peer: hangs("HTTP/1.1 200 OK\r\nX: y\r\n"), then: fails("no answer within 15s")},
		{answer: "headers of one byte a second", peer: drips("HTTP/1.1 200 OK\r\nX: ", "x", time.Second), then: fails("no answer within 15s")},
		{answer: "headers without end", peer: drips("HTTP/1.1 200 OK\r\n", "X: y\r\n", 0), then: fails("headers exceeded")},
		{answer: "one header without end", peer: drips("HTTP/1.1 200 OK\r\nX: ", strings.Repeat("x", 1000), 0), then: fails("headers exceeded")},

		// It is no HTTP.
		{answer: "garbage", peer: cut("220 mail.example ESMTP\r\n"), then: fails("malformed HTTP")},
		{answer: "garbage that repeats the token", peer: echoes("%s\r\n\r\n"), then: fails("[redacted]")},
		{answer: "another protocol's version", peer: cut("HTTP/x 200 OK\r\n\r\n"), then: fails("malformed HTTP version")},
		{answer: "a status that is no number", peer: cut("HTTP/1.1 abc OK\r\n\r\n"), then: fails("malformed HTTP status code")},
		{answer: "a status of four digits", peer: cut("HTTP/1.1 2000 OK\r\n\r\n"), then: fails("malformed HTTP status code")},
		{answer: "a negative status", peer: cut("HTTP/1.1 -20 OK\r\n\r\n"), then: fails("malformed HTTP status code")},
		{answer: "200 with a negative Content-Length", peer: cut("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), then: fails("bad Content-Length")},
		{answer: "200 with two lengths", peer: cut("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), then: fails("Content-Length")},
		{answer: "200 with a broken header", peer: cut("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), then: fails("malformed MIME header")},
	}

	// A halt lasts as long as the subscriber says, and is never a failure. More than 24 h suspends.
	for _, status := range []string{"429 Too Many Requests", "503 Service Unavailable"} {
		for _, c := range []struct {
			retryAfter string
			then       verdict
		}{
			{"60", halts(time.Minute, status)},
			{" 60 ", halts(time.Minute, status)},
			{"1", halts(time.Second, status)},
			{"1.5", halts(1500*time.Millisecond, status)},
			{"86400", halts(24*hour, status)},
			{"Sat, 01 Jan 2000 00:05:00 GMT", halts(5*time.Minute, status)}, // a bubble begins with 2000
			{"Saturday, 01-Jan-00 00:05:00 GMT", halts(5*time.Minute, status)},
			{"Sat Jan  1 00:05:00 2000", halts(5*time.Minute, status)},
			{"Sat, 01 Jan 2000 01:05:00 GMT\r\nDate: Sat, 01 Jan 2000 01:00:00 GMT", halts(5*time.Minute, status)}, // one of the clocks is an hour off
			{"Sat, 01 Jan 2000 00:05:00 GMT\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT", halts(5*time.Minute, status)},
			{"Sat, 01 Jan 2000 00:05:00 GMT\r\nDate: today", halts(5*time.Minute, status)},
			{"", halted(status)},
			{"0", halted(status)},
			{"0.2", halted(status)},
			{"-1", halted(status)},
			{"soon", halted(status)},
			{"1e3", halted(status)},
			{"0x10", halted(status)},
			{"60, 90", halted(status)},
			{"Fri, 31 Dec 1999 00:00:00 GMT", halted(status)},
			{"Sat, 41 Jan 2000 00:05:00 GMT", halted(status)},
			{"86401", suspends("asks to wait until 2000-01-02T00:00:01Z: " + status)},
			{"Sun, 02 Jan 2000 00:00:01 GMT", suspends("asks to wait")},
			{"31536000", suspends("asks to wait")}, // a year
			{"9223372036854775808", suspends("asks to wait")},
			{strings.Repeat("9", 400), suspends("asks to wait")},
			{"Fri, 31 Dec 9999 23:59:59 GMT", suspends("asks to wait")},
		} {
			name := fmt.Sprintf("%.3s, Retry-After: %.40s", status, c.retryAfter)
			table = append(table, row{answer: name, peer: says(status, "Retry-After: "+c.retryAfter), then: c.then})
		}
		table = append(table, row{answer: status[:3] + " without Retry-After", peer: says(status), then: halted(status)})
	}

	// TLS: nothing is sent to whom the certificate does not name.
	in2000 := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	good, trusted := certificate(t, "b.example", in2000.Add(24*hour))
	wrong, trustedWrong := certificate(t, "c.example", in2000.Add(24*hour))
	expired, trustedExpired := certificate(t, "b.example", in2000.Add(-time.Minute))
	ok := says("200 OK")
	table = append(table,
		row{answer: "TLS", tls: true, roots: trusted, peer: secure(good, tls.VersionTLS12, tls.VersionTLS13, ok), then: taken},
		row{answer: "TLS, unknown authority", tls: true, roots: x509.NewCertPool(), peer: secure(good, 0, 0, ok), then: fails("unknown authority")},
		row{answer: "TLS, another name", tls: true, roots: trustedWrong, peer: secure(wrong, 0, 0, ok), then: fails("not [redacted]")},
		row{answer: "TLS, expired", tls: true, roots: trustedExpired, peer: secure(expired, 0, 0, ok), then: fails("expired")},
		row{answer: "TLS, too old", tls: true, roots: trusted, peer: secure(good, tls.VersionTLS10, tls.VersionTLS11, ok), then: fails("protocol version")},
		row{answer: "TLS, plain HTTP answers", tls: true, roots: trusted, peer: cutRaw("HTTP/1.1 400 Bad Request\r\n\r\n"), then: fails("gave HTTP response to HTTPS client")},
		row{answer: "TLS, silent", tls: true, roots: trusted, peer: func(e *end) { e.gone() }, then: fails("handshake timeout")},
	)

	// The same through real sockets, where the kernel says what happened.
	table = append(table,
		row{answer: "sockets: 200", url: listening(t, ok), then: taken},
		row{answer: "sockets: refused", url: closedPort(t), then: fails("connection refused")},
		row{answer: "sockets: reset before the request", url: listening(t, resets(0)), then: fails("")}, // reset, or a broken pipe
		row{answer: "sockets: reset during the request", url: listening(t, resets(10)), then: fails("")},
		row{answer: "sockets: address not allowed", url: "http://[::2]:80/hook", then: fails("callback address is not allowed")},
		row{answer: "sockets: TLS, unknown authority", url: overTLS(t), then: fails("certificate")},
		row{answer: "sockets: TLS, plain HTTP answers", url: strings.Replace(listening(t, ok), "http:", "https:", 1), then: fails("")},
		row{answer: "sockets: TLS expected", url: strings.Replace(overTLS(t), "https:", "http:", 1), then: fails("400 Bad Request")},
	)

	for _, r := range table {
		t.Run(r.answer, func(t *testing.T) {
			t.Parallel()
			if r.url != "" {
				r.checkSockets(t)
				return
			}
			synctest.Test(t, r.check)
		})
	}
	for status := range 1000 { // those that the table leaves out
		want := map[int]string{401: "refused", 403: "refused", 410: "gone", 413: "too_large", 429: "halted", 503: "halted"}[status]
		if want == "" {
			want = map[bool]string{true: "acknowledged", false: "failed"}[status >= 200 && status <= 299]
		}
		if got := producer.Verdict(status); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}

// check pushes two events to the peer of the row, in a bubble.
func (r row) check(t *testing.T) {
	store := openStore(t, t.TempDir())
	subscribe(t, store, "b")
	last := put(t, store, entityevent.Local, 2)[1]
	net := &wire{peer: r.peer, fails: r.dial}
	p := newPusher(t, store, nil)
	p.HTTP = net.client(t, r.roots)
	scheme := "http"
	if r.tls {
		scheme = "https"
	}
	p.Subscription.URL = scheme + "://b.example/hook/hidden-path?key=hidden-query"
	stop := start(t, p)
	var state producer.SubscriptionState
	for settled := false; !settled; settled = state.Attempts > 0 || state.Cursor > 0 {
		time.Sleep(10 * time.Millisecond)
		state = stateOf(t, store, "b")
	}
	if took := time.Since(net.tried()[0].at); took > 15*time.Second+200*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	r.checkState(t, state, last)

	// And so it acts.
	time.Sleep(r.then.from)
	switch r.then.does {
	case "advance":
		time.Sleep(hour)
		if n := len(net.tried()); n != 1 {
			t.Errorf("%d pushes of what was taken", n)
		}
	case "suspend":
		time.Sleep(50 * hour)
		if n := len(net.tried()); n != 1 {
			t.Errorf("%d pushes to a suspended subscription", n)
		}
	default:
		time.Sleep(r.then.to - r.then.from + 100*time.Millisecond)
		if len(net.tried()) < 2 {
			t.Fatalf("no second push")
		}
		if wait := net.tried()[1].at.Sub(state.HaltedAt); !state.HaltedAt.IsZero() && (wait < r.then.from || wait > r.then.to+time.Millisecond) {
			t.Errorf("the second push came after %v", wait)
		}
	}
	stop()
	for _, a := range net.tried() {
		if a.url != p.Subscription.URL || a.token != "Bearer hidden-token" {
			t.Errorf("%+v", a)
		}
	}
	if n := net.taken(); n > 2<<20 {
		t.Errorf("%d bytes of the answers were read", n)
	}
}

// checkState compares what is stored after the first push.
func (r row) checkState(t *testing.T, got producer.SubscriptionState, last entityevent.Sequence) {
	t.Helper()
	want := r.then
	var ok bool
	if want.does == "advance" {
		ok = got.Cursor == last && got.Acknowledged == last && got.Attempts == 0 && got.LastError == "" && !got.SucceededAt.IsZero()
	} else {
		ok = got.Cursor == 0 && got.Acknowledged == 0 && got.Attempts == 1 && got.SucceededAt.IsZero() && strings.Contains(got.Reason+got.LastError, want.says)
	}
	if want.counts {
		ok = ok && got.FailingSince.Equal(got.HaltedAt)
	} else {
		ok = ok && got.FailingSince.IsZero()
	}
	if wait := got.HaltedUntil.Sub(got.HaltedAt); want.does == "wait" {
		ok = ok && !got.HaltedAt.IsZero() && wait >= want.from && wait <= want.to
	} else {
		ok = ok && got.HaltedUntil.IsZero()
	}
	if want.does == "suspend" {
		ok = ok && got.Status == producer.Suspended && strings.Contains(got.Reason, got.LastError) && strings.HasSuffix(got.Reason, "run: resosync resume b")
	} else {
		ok = ok && got.Status == producer.Active && got.Reason == ""
	}
	ok = ok && (got.BatchLimit == 1) == (want.does == "halve")
	if !ok {
		t.Errorf("want %+v, got %+v", want, got)
	}
	for _, text := range []string{got.LastError, got.Reason} {
		for _, secret := range []string{"hidden-", "b.example", "127.0.0", "::1", ":53"} {
			if strings.Contains(text, secret) || len(text) > 700 {
				t.Errorf("stored: %s", text)
			}
		}
	}
}

// checkSockets pushes to a real server; how long the producer then waits is in the state.
func (r row) checkSockets(t *testing.T) {
	store := openStore(t, t.TempDir())
	subscribe(t, store, "b")
	last := put(t, store, entityevent.Local, 2)[1]
	p := newPusher(t, store, nil)
	client := loopback().Client()
	t.Cleanup(client.CloseIdleConnections)
	p.HTTP, p.Subscription.URL = client, r.url
	stop := start(t, p)
	var state producer.SubscriptionState
	waitFor(t, func() bool {
		state = stateOf(t, store, "b")
		return state.Attempts > 0 || state.Cursor > 0
	})
	stop()
	r.checkState(t, state, last)
}

// large answers with 100 MB, as fast as they are taken.
func large(statusLine string) func(*end) {
	return func(e *end) {
		if e.request() == nil {
			return
		}
		_, err := fmt.Fprintf(e, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n", statusLine, mega)
		piece := make([]byte, 64<<10)
		for n := 0; err == nil && n < mega; n += len(piece) {
			_, err = e.Write(piece)
		}
	}
}

func problem(statusLine, body string) func(*end) {
	return answers(fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s", statusLine, len(body), body))
}

// echoes repeats what it should keep to itself.
func echoes(format string) func(*end) {
	return func(e *end) {
		if r := e.request(); r != nil {
			fmt.Fprintf(e, format, r.Header.Get("Authorization")+" at "+r.Host+r.URL.String()+", "+r.URL.Path+", hidden-path")
		}
	}
}

// cutRaw answers to whatever comes.
func cutRaw(text string) func(*end) {
	return func(e *end) {
		if _, err := e.in.ReadByte(); err == nil {
			go e.gone()
			_, _ = io.WriteString(e, text)
		}
	}
}

func refuses(err error) func(context.Context, string) error {
	return func(context.Context, string) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
}

// listening serves a peer on loopback.
func listening(t *testing.T, peer func(*end)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				peer(newEnd(conn))
			}()
		}
	}()
	return "http://" + listener.Addr().String() + "/hook?key=hidden-query"
}

// resets reads n bytes and resets the connection.
func resets(n int64) func(*end) {
	return func(e *end) {
		_, _ = io.CopyN(io.Discard, e.in, n)
		_ = e.Conn.(*net.TCPConn).SetLinger(0)
	}
}

func closedPort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	return "http://" + listener.Addr().String() + "/hook"
}

func overTLS(t *testing.T) string {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}
