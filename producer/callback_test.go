package producer_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/resosync/resosync/producer"
)

func TestCallbackCheck(t *testing.T) {
	lan := producer.CallbackDialer{AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")}}
	for _, c := range []struct {
		scheme, address string
		ok              bool
	}{
		{"https", "93.184.216.34:443", true},
		{"https", "93.184.216.34:8443", true},
		{"https", "[2606:4700::1111]:443", true},
		{"https", "93.184.216.34:80", false},
		{"https", "93.184.216.34:22", false},
		{"http", "93.184.216.34:443", false},
		{"http", "93.184.216.34:80", false},
		{"https", "127.0.0.1:443", false},
		{"https", "127.8.9.10:443", false},
		{"https", "[::1]:443", false},
		{"https", "[::ffff:127.0.0.1]:443", false},
		{"https", "[::ffff:10.0.0.1]:443", false},
		{"https", "[::]:443", false},
		{"https", "0.0.0.0:443", false},
		{"https", "0.1.2.3:443", false},
		{"https", "10.0.0.1:443", false},
		{"https", "172.16.0.1:443", false},
		{"https", "192.168.1.1:443", false},
		{"https", "169.254.169.254:443", false},
		{"https", "100.64.0.1:443", false},
		{"https", "198.18.0.1:443", false},
		{"https", "224.0.0.1:443", false},
		{"https", "240.0.0.1:443", false},
		{"https", "255.255.255.255:443", false},
		{"https", "[fe80::1%25eth0]:443", false},
		{"https", "[fe80::1]:443", false},
		{"https", "[fc00::1]:443", false},
		{"https", "[ff02::1]:443", false},
		{"https", "[64:ff9b::7f00:1]:443", false},
		{"https", "[2002:7f00:1::]:443", false},
		{"https", "[2001:0:1::]:443", false},
		{"https", "[2001:db8::1]:443", false},
		{"https", "b.example:443", false},
		{"https", "", false},
		{"http", "10.1.2.3:9000", true},
		{"http", "[::ffff:10.1.2.3]:9000", true},
		{"http", "[fd00:1::1]:80", true},
		{"http", "10.2.0.1:80", false},
	} {
		err := lan.Check(c.scheme, c.address)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, producer.ErrCallback) {
			t.Errorf("%s %s: %v, want ok %v", c.scheme, c.address, err, c.ok)
		}
	}
}

// The address counts that is connected to, however it is written or resolved.
func TestCallbackClientRefusesLoopback(t *testing.T) {
	reached := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer server.Close()
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	client := producer.CallbackDialer{}.Client()
	defer client.CloseIdleConnections()
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1"} {
		resp, err := client.Get("http://" + host + port)
		if err == nil {
			resp.Body.Close()
		}
		if err == nil || host != "127.1" && host != "[::1]" && !errors.Is(err, producer.ErrCallback) || reached {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestCallbackClientFollowsNoRedirect(t *testing.T) {
	reached := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	t.Setenv("HTTP_PROXY", elsewhere.URL)
	client := loopback().Client()
	defer client.CloseIdleConnections()
	resp, err := client.Post(server.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect || reached {
		t.Errorf("%d, reached %v", resp.StatusCode, reached)
	}
}
