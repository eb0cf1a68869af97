package consumer_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/resosync/resosync/consumer"
)

// silentNetwork notes what requests ask for, and answers none.
type silentNetwork struct{ encoding map[string]bool }

func (r silentNetwork) RoundTrip(req *http.Request) (*http.Response, error) {
	r.encoding[req.Header.Get("Accept-Encoding")] = true
	return nil, errors.New("nobody is there")
}

// On one machine compression would only cost time. Elsewhere it is left to the transport, which asks for it.
func TestNoCompressionOnLoopback(t *testing.T) {
	for url, want := range map[string]string{
		"http://127.0.0.1:8080/odata": "identity", "http://[::1]:8080/odata": "identity", "http://localhost/odata": "identity",
		"http://mls.test/odata": "", "http://10.0.0.1/odata": "", "http://localhost.test/odata": "",
	} {
		synctest.Test(t, func(t *testing.T) {
			network := silentNetwork{map[string]bool{}}
			f := newFeed(t, network, "Property")
			f.URL = url
			if err := f.Sync(t.Context(), consumer.SyncOptions{}, nil); err == nil || len(network.encoding) != 1 || !network.encoding[want] {
				t.Errorf("%s: %v, asked for %v", url, err, network.encoding)
			}
		})
	}
}
